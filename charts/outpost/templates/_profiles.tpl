{{/* Profiles: options that an override sets, or takes away. */}}

{{/* Puts every `kubespawner_override` below `tree` into `found`, by its path, which begins with `path`. */}}
{{- define "outpost.findOverrides" -}}
{{- if or (kindIs "map" .tree) (kindIs "slice" .tree) -}}
{{- range $key, $value := .tree -}}
{{- $path := include "outpost.path" (list $.path $key) -}}
{{- if and (eq (toString $key) "kubespawner_override") (kindIs "map" $value) -}}
{{- $_ := set $.found $path $value -}}
{{- else -}}
{{- include "outpost.findOverrides" (dict "tree" $value "path" $path "found" $.found) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Refuses namespaces that are none, and options that KubeSpawner has, and Outpost not. */}}
{{- define "outpost.checkProfiles" -}}
{{- $overrides := dict -}}
{{- include "outpost.findOverrides" (dict "tree" .Values.singleuser.profileList "path" "singleuser.profileList" "found" $overrides) -}}
{{- range $name, $backend := .Values.config.spawners -}}
{{- $path := printf "config.spawners.%s.profile_list" $name -}}
{{- include "outpost.findOverrides" (dict "tree" (dig "profile_list" list ($backend | default dict)) "path" $path "found" $overrides) -}}
{{- end -}}
{{- range $path, $override := $overrides -}}
{{- range $option := list "consecutive_failure_limit" "http_timeout" "hub_connect_url" "oauth_no_confirm" "poll_interval" "server_token_scopes" -}}
{{- if hasKey $override $option -}}
{{- fail (printf "\n\n%s.%s: is the hub's, and the same for all profiles: write c.OutpostSpawner.%s into its jupyterhub_config.py, and take it away here." $path $option $option) -}}
{{- end -}}
{{- end -}}
{{- if hasKey $override "fs_group" -}}
{{- fail (printf "\n\n%s.fs_group: is called fs_gid." $path) -}}
{{- end -}}
{{- /* What a user writes has no rights of Outpost. */ -}}
{{- if not (contains "{value}" (toString $override.namespace)) -}}
{{- include "outpost.checkNamespace" (dict "path" (printf "%s.namespace" $path) "name" $override.namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The next two change the backends' sections that they are given, and render nothing. */}}

{{/* A limit of 0 is none, as in KubeSpawner: neither a section has it then, nor what is below an override. */}}
{{- define "outpost.dropZeroLimits" -}}
{{- range $backend := . -}}
{{- $overrides := dict -}}
{{- include "outpost.findOverrides" (dict "tree" $backend.profile_list "path" "" "found" $overrides) -}}
{{- range $option := list "cpu_limit" "mem_limit" -}}
{{- if include "outpost.isZero" (get $backend $option) -}}{{- $_ := unset $backend $option -}}{{- end -}}
{{- range $override := $overrides -}}
{{- if include "outpost.isZero" (get $override $option) -}}{{- $_ := set $override $option nil -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" for 0 and for texts like 0G, else nothing. */}}
{{- define "outpost.isZero" -}}
{{- if toString . | regexMatch "^0+(\\.0*)?[KMGT]?$" -}}true{{- end -}}
{{- end -}}

{{/* null below an override takes an option away. TOML has no null. */}}
{{- define "outpost.writeNulls" -}}
{{- $overrides := dict -}}
{{- include "outpost.findOverrides" (dict "tree" . "path" "" "found" $overrides) -}}
{{- range $override := $overrides -}}
{{- include "outpost.writeNullsOf" $override -}}
{{- end -}}
{{- end -}}

{{- define "outpost.writeNullsOf" -}}
{{- range $key, $value := . -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := set $ $key (dict "$patch" "delete") -}}
{{- else if kindIs "map" $value -}}
{{- include "outpost.writeNullsOf" $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
