{{/* What Outpost does in its own cluster, by the effective configuration: namespaces, and rights with their reasons. */}}

{{/*
The options of a backend and those that its profiles and their choices override, as a YAML list.
Takes the backend's section. Lists and tables are both taken, as the configuration does.
*/}}
{{- define "outpost.options" -}}
{{- $all := list . -}}
{{- range .profile_list -}}
{{- $all = append $all (.kubespawner_override | default dict) -}}
{{- range .profile_options -}}
{{- range .choices -}}
{{- $all = append $all (.kubespawner_override | default dict) -}}
{{- end -}}
{{- $unlisted := dict -}}
{{- range $key, $value := dig "kubespawner_override" dict (.unlisted_choice | default dict) -}}
{{- /* What a user writes is no namespace that the site gives rights in. */ -}}
{{- if not (contains "{value}" (toString $value)) -}}{{- $_ := set $unlisted $key $value -}}{{- end -}}
{{- end -}}
{{- $all = append $all $unlisted -}}
{{- end -}}
{{- end -}}
{{- include "outpost.json" $all -}}
{{- end -}}

{{/* The plural of a kind, as Outpost asks for it. */}}
{{- define "outpost.plural" -}}
{{- $word := lower . -}}
{{- if has $word (list "endpoints" "endpointslices") -}}{{ $word }}
{{- else if eq $word "nodemetrics" -}}nodes
{{- else if eq $word "podmetrics" -}}pods
{{- else if regexMatch "(s|x|z|ch|sh)$" $word -}}{{ $word }}es
{{- else if regexMatch "[^aeiou]y$" $word -}}{{ trimSuffix "y" $word }}ies
{{- else -}}{{ $word }}s
{{- end -}}
{{- end -}}

{{/* Rights in namespaces of servers, as a YAML list. Takes {backend, ensures}: the section, and whether it may make claims. */}}
{{- define "outpost.serverRules" -}}
- {group: "", resource: pods, verbs: [create, delete, get, list, watch], reason: "A server is a pod, and watched."}
- {group: "", resource: pods/log, verbs: [get], reason: "The last lines of a server that failed, and `collect_logs`."}
- {group: "", resource: events, verbs: [list, watch], reason: "Progress of a start, and why it failed."}
- {group: "", resource: secrets, verbs: [create, delete, get], reason: "A server's API token, its certificates."}
- {group: "", resource: services, verbs: [create, delete, get], reason: "A server's name in the cluster's DNS."}
- {group: "", resource: persistentvolumeclaims, verbs: [get], reason: "Whose the claim is that a pod mounts."}
{{- if .ensures }}
- {group: "", resource: persistentvolumeclaims, verbs: [create], reason: "`storage_pvc_ensure`: a claim for each user."}
{{- end }}
{{- if .backend.storage_retention }}
- {group: "", resource: persistentvolumeclaims, verbs: [delete, list, patch], reason: "`storage_retention`: when a claim was last used."}
{{- end }}
{{- range .backend.object_kinds }}
{{- $parts := splitList "/" . }}
- group: {{ if gt (len $parts) 2 }}{{ first $parts | quote }}{{ else }}""{{ end }}
  resource: {{ include "outpost.plural" (last $parts) | quote }}
  verbs: [create, delete, get, patch]
  reason: "`object_kinds`: objects of `pre_start` and `post_stop`."
{{- end }}
{{- end -}}

{{/* Rights in the whole cluster, as a YAML list. Takes {backend, everywhere}: whether each user has a namespace. */}}
{{- define "outpost.clusterRules" -}}
{{- if .everywhere }}
{{ include "outpost.serverRules" . }}
- {group: "", resource: namespaces, verbs: [create, get], reason: "`enable_user_namespaces`: a namespace for each user."}
{{- end }}
{{- if not (has (.backend.capacity_check | default "off") (list "off")) }}
- {group: "", resource: nodes, verbs: [list], reason: "`capacity_check`: what nodes have."}
- {group: "", resource: pods, verbs: [list], reason: "`capacity_check`: what is in use of them."}
- {group: scheduling.k8s.io, resource: priorityclasses, verbs: [list], reason: "`capacity_check`: who makes room for whom."}
{{- end }}
{{- end -}}

{{/*
The backends that start pods with Outpost's own service account, as YAML: for each its `namespaces`, the `rules` that
hold in them, and `clusterRules`. Those with a `kubeconfig` or a `context` have other rights than ours to give.
*/}}
{{- define "outpost.backends" -}}
{{- $backends := dict -}}
{{- range $name, $backend := (include "outpost.config" . | fromYaml).spawners -}}
{{- if and (eq (toString $backend.type) "kubernetes") (not $backend.kubeconfig) (not $backend.context) -}}
{{- $namespaces := prepend ($backend.namespaces | default list) ($backend.namespace | default $.Release.Namespace) -}}
{{- $everywhere := false -}}
{{- $ensures := false -}}
{{- range include "outpost.options" $backend | fromYamlArray -}}
{{- if .namespace -}}{{- $namespaces = append $namespaces .namespace -}}{{- end -}}
{{- if eq (toJson .enable_user_namespaces) "true" -}}{{- $everywhere = true -}}{{- end -}}
{{- if eq (toJson .storage_pvc_ensure) "true" -}}{{- $ensures = true -}}{{- end -}}
{{- end -}}
{{- $facts := dict "backend" $backend "ensures" $ensures "everywhere" $everywhere -}}
{{- $rules := ternary list (include "outpost.serverRules" $facts | fromYamlArray) $everywhere -}}
{{- $clusterRules := include "outpost.clusterRules" $facts | fromYamlArray -}}
{{- $_ := set $backends $name (dict
  "namespaces" ($namespaces | uniq | sortAlpha) "rules" $rules "clusterRules" $clusterRules
  "account" (toString $backend.service_account)) -}}
{{- end -}}
{{- end -}}
{{- include "outpost.json" $backends -}}
{{- end -}}

{{/* The namespaces of servers in this cluster, as YAML: for each the `rules` and `accounts` of the backends there. */}}
{{- define "outpost.namespaces" -}}
{{- $all := dict -}}
{{- range $backend := include "outpost.backends" . | fromYaml -}}
{{- range $namespace := $backend.namespaces -}}
{{- $one := get $all $namespace | default (dict "rules" list "accounts" list) -}}
{{- $_ := set $all $namespace (dict
  "rules" (concat $one.rules $backend.rules | uniq)
  "accounts" (append $one.accounts $backend.account | uniq)) -}}
{{- end -}}
{{- end -}}
{{- include "outpost.json" $all -}}
{{- end -}}

{{/* Rules in the words of RBAC, each below its reason. Takes a list of rules. */}}
{{- define "outpost.rules" -}}
rules:
  {{- range . }}
  # {{ .reason }}
  - apiGroups: [{{ .group | quote }}]
    resources: [{{ .resource | quote }}]
    verbs: [{{ join ", " .verbs }}]
  {{- end }}
{{- end -}}
