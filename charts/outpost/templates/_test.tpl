{{/*
The hub as which `helm test` starts a server, as YAML: its `name` and where its password is (`secret`, `key`), or the
`variables` that have both. Nothing, if no password is a file: then there is no test.
*/}}
{{- define "outpost.testHub" -}}
{{- $hub := dict -}}
{{- range $name, $settings := (include "outpost.config" . | fromYaml).hubs -}}
{{- range $settings.passwords -}}
{{- $path := splitList "/" (dig "file" "" .) -}}
{{- if and (not $hub) (or (not $.Values.test.hub) (eq $.Values.test.hub $name)) (hasPrefix "/etc/outpost-secrets/" (join "/" $path)) -}}
{{- $hub = dict "name" $name "secret" (index $path 3) "key" (index $path 4) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (not $hub) .Values.test.hub -}}
{{- fail (printf "test.hub: %q is none of the hubs whose password is in a Secret; write one of these, or nothing" .Values.test.hub) -}}
{{- end -}}
{{- if and (not $hub) .Values.outpostUsers -}}
{{- $hub = dict "variables" (include "outpost.secretVariables" . | fromYamlArray) -}}
{{- end -}}
{{- if $hub -}}{{- toYaml $hub -}}{{- end -}}
{{- end -}}
