{{/* The configuration: what becomes of hubs, config, singleuser and the values of the Python service's chart. */}}

{{/* The effective configuration as YAML; secrets are already the paths of mounted files. */}}
{{- define "outpost.config" -}}
{{- include "outpost.checks" . -}}
{{- $config := include "outpost.ownConfig" . | fromYaml -}}
{{- $written := deepCopy (.Values.config | default dict) -}}
{{- $_ := set $written "hubs" (include "outpost.hubs" . | fromYaml) -}}
{{- $spawners := $written.spawners -}}
{{- $_ := unset $written "spawners" -}}
{{- /* Without these Outpost is not reached, or its key goes with the pod: nothing is what the chart says. */ -}}
{{- range $section, $keys := dict "http" (list "listen" "admin_listen") "ssh" (list "listen") "store" (list "keys") -}}
{{- $table := get $written $section | default dict -}}
{{- range $key := $keys -}}
{{- if empty (get $table $key) -}}
{{- $_ := unset $table $key -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- include "outpost.mounted" $written -}}
{{- include "outpost.merge" (dict "into" $config "from" $written) -}}
{{- include "outpost.merge" (dict "into" $config.spawners "from" ($spawners | default dict)) -}}
{{- include "outpost.dropZeroLimits" $config.spawners -}}
{{- range $name, $backend := $config.spawners -}}
{{- if eq (toString $backend.type) "kubernetes" -}}
{{- range $option, $value := dict "uid" 1000 "fs_gid" 100 -}}
{{- if and (ne $name "kubernetes") (not (hasKey $backend $option)) -}}
{{- $_ := set $backend $option $value -}}
{{- end -}}
{{- end -}}
{{- include "outpost.restrict" $backend -}}
{{- end -}}
{{- end -}}
{{- if and (include "outpost.elsewhere" .) (eq $config.spawners.kubernetes.service_account (include "outpost.serversAccount" .)) -}}
{{- $_ := unset $config.spawners.kubernetes "service_account" -}}
{{- end -}}
{{- include "outpost.json" $config -}}
{{- end -}}

{{/* The configuration without what is written in `config` and `hubs`. */}}
{{- define "outpost.ownConfig" -}}
{{- $postgresql := include "outpost.postgresql" . -}}
state_dir: /var/lib/outpost/state
http:
  listen: "0.0.0.0:8080"
  admin_listen: "0.0.0.0:8081"
  {{- if $postgresql }}
  # The new pod takes over while the old one ends what it began.
  drain_delay: 10s
  shutdown_timeout: 5m
  {{- end }}
  {{- with .Values.tlsSecret }}
  tls_cert: /etc/outpost-tls/tls.crt
  tls_key: /etc/outpost-tls/tls.key
  {{- end }}
  {{- if and .Values.ingress.enabled (regexMatch "^(/[A-Za-z0-9._-]+)+/?$" .Values.ingress.path) (not (include "outpost.hasVariable" (list . "OUTPOST_BASE_PATH"))) }}
  base_path: {{ trimSuffix "/" .Values.ingress.path | quote }}
  {{- end }}
{{- if include "outpost.ssh" . }}
ssh:
  listen: "0.0.0.0:2222"
  {{- with .Values.servicessh.loadBalancerIP }}
  public_address: {{ printf "%s:%v" . $.Values.servicessh.ports.port | quote }}
  {{- end }}
  {{- with .Values.sshPublicKeys }}
  authorized_keys: {{ toJson . }}
  {{- end }}
{{- end }}
{{- with include "outpost.cryptSecret" . }}
store:
  keys: [{file: {{ printf "/etc/outpost-secrets/%s/secret_key" . | quote }}}]
{{- end }}
{{- if or .Values.flavors .Values.credits }}
flavors:
  {{- if .Values.flavors }}
  file: /etc/outpost/flavors.yaml
  {{- end }}
  {{- if .Values.credits }}
  credits_file: /etc/outpost/credits.yaml
  {{- end }}
{{- end }}
{{- if gt (len (omit (.Values.config.spawners | default dict) "kubernetes")) 0 }}
spawner: kubernetes
{{- end }}
spawners:
  kubernetes:
    {{- include "outpost.singleuser" . | nindent 4 }}
{{- end -}}

{{/* The hubs by name, as in `[hubs.<name>]`. */}}
{{- define "outpost.hubs" -}}
{{- $hubs := include "outpost.writtenHubs" . | fromYaml -}}
{{- range $name := include "outpost.hubsWithoutPassword" (list . $hubs) | fromYamlArray -}}
{{- $_ := set (get $hubs $name) "passwords" (list (dict "file" (printf "/etc/outpost-hubs/%s" $name))) -}}
{{- end -}}
{{- include "outpost.json" $hubs -}}
{{- end -}}

{{/* Those of `hubs` and of `config.hubs`, or the one that there is if there are none. */}}
{{- define "outpost.writtenHubs" -}}
{{- $hubs := dict -}}
{{- range $written := list .Values.hubs .Values.config.hubs -}}
{{- range $name, $hub := $written -}}
{{- $_ := set $hubs $name (deepCopy (get $hubs $name | default dict)) -}}
{{- include "outpost.merge" (dict "into" (get $hubs $name) "from" ($hub | default dict)) -}}
{{- end -}}
{{- end -}}
{{- if not (or $hubs .Values.outpostUsers) -}}
{{- $_ := set $hubs "jupyterhub" dict -}}
{{- end -}}
{{- include "outpost.json" $hubs -}}
{{- end -}}

{{/* Of a list of the context and of the hubs that are written, the names of those whose passwords the chart makes, as a YAML list. */}}
{{- define "outpost.hubsWithoutPassword" -}}
{{- $names := list -}}
{{- if not (index . 0).Values.outpostUsers -}}
{{- range $name, $hub := index . 1 -}}
{{- if not $hub.passwords -}}
{{- $names = append $names $name -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- include "outpost.json" $names -}}
{{- end -}}

{{/* The Secret with the keys of the database, or nothing where the configuration or a variable says another place. */}}
{{- define "outpost.cryptSecret" -}}
{{- if .Values.cryptSecret -}}
{{- .Values.cryptSecret -}}
{{- else if not (or (dig "store" "keys" "" .Values.config) (include "outpost.hasVariable" (list . "OUTPOST_CRYPT_KEY"))) -}}
{{- include "outpost.fullname" . }}-keys
{{- end -}}
{{- end -}}

{{/* The value of a variable of `extraEnvVars`; of a list of the context and its name. */}}
{{- define "outpost.variable" -}}
{{- range (index . 0).Values.extraEnvVars -}}
{{- if eq .name (index $ 1) -}}
{{- .value | default "" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" if a variable is in `extraEnvVars`, else nothing; of a list of the context and its name. */}}
{{- define "outpost.hasVariable" -}}
{{- range (index . 0).Values.extraEnvVars -}}
{{- if eq .name (index $ 1) -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" if the database is PostgreSQL, else nothing. */}}
{{- define "outpost.postgresql" -}}
{{- $url := dig "store" "url" "" .Values.config | default (include "outpost.variable" (list . "OUTPOST_DATABASE_URL")) -}}
{{- if .Values.database.type -}}
{{- if eq .Values.database.type "postgresql" -}}true{{- end -}}
{{- else if $url -}}
{{- if hasPrefix "postgres" $url -}}true{{- end -}}
{{- else if eq (include "outpost.variable" (list . "SQL_TYPE")) "postgresql" -}}true
{{- end -}}
{{- end -}}

{{/* "true" if there is an SSH server, else nothing. */}}
{{- define "outpost.ssh" -}}
{{- if kindIs "bool" .Values.servicessh.enabled -}}
{{- if .Values.servicessh.enabled -}}true{{- end -}}
{{- else -}}
{{- $keys := concat (.Values.sshPublicKeys | default list) (dig "ssh" "authorized_keys" list .Values.config | default list) -}}
{{- range $hubs := list .Values.hubs .Values.config.hubs -}}
{{- range $hub := $hubs -}}
{{- $keys = concat $keys (dig "ssh_keys" list ($hub | default dict)) -}}
{{- end -}}
{{- end -}}
{{- if or $keys (dig "ssh" "listen" "" .Values.config) -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* The items of the projected volume that is mounted at /etc/outpost-secrets: `sources` of each secret, as a YAML list. */}}
{{- define "outpost.secretSources" -}}
{{- $items := dict -}}
{{- range regexFindAll "\"/etc/outpost-secrets/[^/\"]+/[^/\"]+\"" (include "outpost.config" . | fromYaml | toRawJson) -1 | uniq -}}
{{- $path := fromJson (printf "{\"path\":%s}" .) -}}
{{- $parts := trimPrefix "/etc/outpost-secrets/" $path.path | splitList "/" -}}
{{- $secret := index $parts 0 -}}
{{- $item := dict "key" (index $parts 1) "path" (join "/" $parts) -}}
{{- $_ := set $items $secret (append (get $items $secret | default list) $item) -}}
{{- end -}}
{{- $sources := list -}}
{{- range $secret, $keys := $items -}}
{{- $sources = append $sources (dict "secret" (dict "name" $secret "items" $keys)) -}}
{{- end -}}
{{- toYaml $sources -}}
{{- end -}}

{{/* Variables of the container that hold secrets (`outpostUsers`), as a YAML list. */}}
{{- define "outpost.secretVariables" -}}
{{- $variables := list -}}
{{- with .Values.outpostUsers -}}
{{- range $name := list "usernames" "passwords" -}}
{{- $reference := dict "secretKeyRef" (dict "name" $.Values.outpostUsers "key" $name) -}}
{{- $variables = append $variables (dict "name" $name "valueFrom" $reference) -}}
{{- end -}}
{{- end -}}
{{- toYaml $variables -}}
{{- end -}}

{{/* The pod's annotations that change when a restart is needed, as YAML. */}}
{{- define "outpost.checksums" -}}
{{- $config := include "outpost.config" . | fromYaml -}}
{{- $read := pick $config "state_dir" "http" "store" "tasks" -}}
{{- $_ := set $read "ssh" (omit ($config.ssh | default dict) "authorized_keys") -}}
{{- $_ := set $read "log_format" (dig "log" "format" "" $config) -}}
{{- range $name, $backend := $config.spawners -}}
{{- $options := pick $backend "type" "kubeconfig" "context" "api_rate" "api_burst" -}}
{{- /* What a backend has that is added without a restart. */ -}}
{{- if ne (toJson $options) "{\"type\":\"kubernetes\"}" -}}
{{- $_ := set $read (printf "spawners.%s" $name) $options -}}
{{- end -}}
{{- end -}}
checksum/restart: {{ list $read .Values.tlsSecret .Values.outpostUsers | toJson | sha256sum }}
{{- end -}}
