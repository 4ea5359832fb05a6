{{/* What NOTES.txt says. */}}

{{/* Where hubs reach the API. What only the cluster knows is in angle brackets. */}}
{{- define "outpost.url" -}}
{{- $service := .Values.service -}}
{{- $scheme := empty .Values.tlsSecret | ternary "http" "https" -}}
{{- $path := dig "http" "base_path" "" (include "outpost.config" . | fromYaml) -}}
{{- if and .Values.ingress.enabled .Values.ingress.hosts -}}
{{- empty .Values.ingress.tls | ternary "http" "https" }}://{{ first .Values.ingress.hosts }}{{ $path }}
{{- else if eq $service.type "LoadBalancer" -}}
{{- $scheme }}://{{ $service.loadBalancerIP | default "<address of the load balancer>" }}:{{ $service.ports.port }}{{ $path }}
{{- else if eq $service.type "NodePort" -}}
{{- $scheme }}://<address of a node>:{{ $service.ports.nodePort | default "<port of the node>" }}{{ $path }}
{{- else -}}
{{- $scheme }}://{{ include "outpost.fullname" . }}.{{ .Release.Namespace }}.svc:{{ $service.ports.port }}{{ $path }}
{{- end -}}
{{- end -}}

{{/* How long a hub has to wait for a start, in seconds: as long as the slowest backend, and some more for the image and what comes before. */}}
{{- define "outpost.patience" -}}
{{- $slowest := 60 -}}
{{- range (include "outpost.config" . | fromYaml).spawners -}}
{{- $slowest = max $slowest (include "outpost.seconds" (.start_timeout | default 60)) -}}
{{- end -}}
{{- add $slowest 120 -}}
{{- end -}}

{{/* What belongs into a hub's jupyterhub_config.py; of a list of the context and the hub's name. What JSON writes is Python, too. */}}
{{- define "outpost.hubSettings" -}}
import base64
c.JupyterHub.spawner_class = "outpostspawner.OutpostSpawner"
c.OutpostSpawner.request_url = {{ printf "%s/services" (include "outpost.url" (index . 0)) | include "outpost.json" }}
credential = base64.b64encode({{ printf "%s:<password>" (index . 1) | include "outpost.json" }}.encode()).decode()
c.OutpostSpawner.request_headers = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Authorization": f"Basic {credential}",
}
# Longer than the slowest start, the time for pulling an image included. The defaults are 20 and 60 seconds.
c.OutpostSpawner.request_kwargs = {"request_timeout": {{ include "outpost.patience" (index . 0) }}}
c.OutpostSpawner.start_timeout = {{ include "outpost.patience" (index . 0) }}
# Servers go on when the hub is restarted.
c.JupyterHub.cleanup_servers = False
# Where servers and Outpost reach the hub's API, if the hub's own idea of it is no address for them:
# c.OutpostSpawner.public_api_url = "https://hub.example.org/hub/api"
{{- end -}}

{{/* How the password of a hub is found; of a list of the context, the hub's name and the hub. */}}
{{- define "outpost.passwordCommand" -}}
{{- $name := index . 1 -}}
{{- with index . 0 -}}
{{- $get := printf "kubectl -n %s get secret %%s -o jsonpath='{.data.%%s}' | base64 -d" .Release.Namespace -}}
{{- if not (index $ 2).passwords -}}
{{- if .Values.outpostUsers }}{{ printf $get .Values.outpostUsers "passwords" }}   # at the place that the hub has in `usernames`
{{- else }}{{ printf $get (printf "%s-hubs" (include "outpost.fullname" .)) (replace "." "\\." $name) }}
{{- end -}}
{{- else -}}
{{- $reference := dig "secretKeyRef" dict (first (index $ 2).passwords) -}}
{{- if $reference }}{{ printf $get $reference.name (replace "." "\\." $reference.key) }}
{{- else }}the one that hubs.{{ include "outpost.json" $name }}.passwords names
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What an administrator should know before users come: sentences, each on a line. */}}
{{- define "outpost.warnings" -}}
{{- $config := include "outpost.config" . | fromYaml -}}
{{- $exposed := has .Values.service.type (list "LoadBalancer" "NodePort") -}}
{{- if and $exposed (not .Values.tlsSecret) }}
- Passwords and tokens cross the network unencrypted: service.type is {{ .Values.service.type }}, and there is no tlsSecret.
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.tls) }}
- The ingress has no ingress.tls. Unless something before it encrypts, passwords and tokens cross the network as they are.
{{- end }}
{{- if and (not .Values.persistence.enabled) (not (include "outpost.postgresql" .)) }}
- persistence.enabled is false: the database is lost with the pod, and hubs lose their servers then.
{{- end }}
{{- if and (or .Values.extraEnvVarsSecrets .Values.extraEnvVarsCMs) (not .Values.database.type) (not (include "outpost.postgresql" .)) }}
- The chart does not see what is in extraEnvVarsSecrets and extraEnvVarsCMs. If SQL_TYPE=postgresql is there, set database.type: postgresql.
{{- end }}
{{- range $name, $backend := include "outpost.backends" . | fromYaml }}
{{- if $backend.clusterRules }}
- Outpost has a ClusterRole, since config.spawners.{{ $name }} needs what no Role gives{{ if not $.Values.rbac.create }} (rbac.create is false, so that it is yours to make){{ end }}:
{{- range $backend.clusterRules }}
    {{ .resource }} ({{ join ", " .verbs }}): {{ .reason }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $backend := $config.spawners }}
{{- if regexMatch "\"enable_user_namespaces\":true" (toJson $backend) }}
- The namespaces of users (config.spawners.{{ $name }}.enable_user_namespaces) are made when they are needed. The chart's network policies, accounts
  and secrets are not in them, and servers there reach what their nodes reach, unless the cluster says otherwise.
{{- end }}
{{- end }}
{{- if not .Values.singleuser.networkPolicy.enabled }}
- singleuser.networkPolicy.enabled is false: servers reach what their nodes reach, the metadata addresses of a cloud among it.
{{- end }}
{{- if .Values.singleuser.cloudMetadata.blockWithIptables }}
- singleuser.cloudMetadata.blockWithIptables is true: each server's pod begins with a privileged container.
{{- end }}
{{- range $name, $backend := $config.spawners }}
{{- if eq (toString $backend.type) "kubernetes" }}
{{- $own := eq $name "kubernetes" | ternary "singleuser.uid or allowPrivilegeEscalation" "its uid, privileged or allow_privilege_escalation" }}
{{- if not (dig "container_security_context" "runAsNonRoot" false $backend) }}
- Servers of config.spawners.{{ $name }} may run as root or gain rights, as {{ $own }} says. Their pods do not pass `restricted`.
{{- else if contains "\"runAsNonRoot\":false" (toJson $backend.profile_list) }}
- Servers with some profiles of config.spawners.{{ $name }} may run as root or gain rights. Their pods do not pass `restricted`.
{{- end }}
{{- end }}
{{- end }}
{{- if and (eq .Values.singleuser.storage.type "static") (gt (len $config.hubs) 1) (not (contains "{hub}" (.Values.singleuser.storage.static.subPath | default ""))) }}
- Users of the same name on several hubs share a folder: singleuser.storage.static.subPath should have {hub} in it.
{{- end }}
{{- end -}}
