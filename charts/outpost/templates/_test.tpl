{{/*
The hub as which `helm test` starts a server, as YAML: its `name` (empty: the first) and where its password is: the `key` of a
`secret`, or `variables`. Nothing, if its password is in neither: then there is no test.
*/}}
{{- define "outpost.testHub" -}}
{{- $hub := dict -}}
{{- range $name, $settings := (include "outpost.config" . | fromYaml).hubs -}}
{{- range $settings.passwords -}}
{{- $file := dig "file" "" . | replace "/etc/outpost-hubs/" (printf "/etc/outpost-secrets/%s-hubs/" (include "outpost.fullname" $)) -}}
{{- $path := splitList "/" $file -}}
{{- if and (not $hub) (or (not $.Values.test.hub) (eq $.Values.test.hub $name)) (eq (len $path) 5) (hasPrefix "/etc/outpost-secrets/" $file) -}}
{{- $hub = dict "name" $name "secret" (index $path 3) "key" (index $path 4) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (not $hub) .Values.outpostUsers -}}
{{- $hub = dict "name" .Values.test.hub "variables" (include "outpost.secretVariables" . | fromYamlArray) -}}
{{- end -}}
{{- if and (not $hub) .Values.test.hub -}}
{{- fail (printf "\n\ntest.hub: the password of %s is in no Secret that the values name, so that no test can have it. Name another hub, or none." .Values.test.hub) -}}
{{- end -}}
{{- if $hub -}}{{- include "outpost.json" $hub -}}{{- end -}}
{{- end -}}
