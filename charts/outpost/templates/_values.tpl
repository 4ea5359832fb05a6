{{/* What is done with trees of values. */}}

{{/*
A value as JSON on one line, in which every character is written out that YAML and TOML do not take as it is. With `toYaml`, a value
that has one could not be read by the template that it is for, and Helm would not say so.
*/}}
{{- define "outpost.json" -}}
{{- $text := toRawJson . | replace "\u007f" "\\u007f" -}}
{{- range regexFindAll "[\\x{80}-\\x{9f}\\x{feff}\\x{fffe}\\x{ffff}]" $text -1 | uniq -}}
{{- $text = replace . (printf "%+q" . | trimAll "\"") $text -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{/* The next two change the tree that they are given, and render nothing. */}}

{{/* Puts the tree `from` over the tree `into`: keys of tables are merged, all else is replaced, null takes a key away. */}}
{{- define "outpost.merge" -}}
{{- $into := .into -}}
{{- range $key, $value := .from -}}
{{- $there := get $into $key -}}
{{- if and (kindIs "map" $value) (kindIs "map" $there) -}}
{{- include "outpost.merge" (dict "into" $there "from" $value) -}}
{{- else if kindIs "invalid" $value -}}
{{- $_ := unset $into $key -}}
{{- else -}}
{{- $_ := set $into $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Replaces {secretKeyRef: {name: …, key: …}} by {file: …}, the path at which that key is mounted. */}}
{{- define "outpost.mounted" -}}
{{- if kindIs "map" . -}}
{{- with .secretKeyRef -}}
{{- $_ := set $ "file" (printf "/etc/outpost-secrets/%s/%s" .name .key) -}}
{{- $_ := unset $ "secretKeyRef" -}}
{{- end -}}
{{- end -}}
{{- if or (kindIs "map" .) (kindIs "slice" .) -}}
{{- range . -}}
{{- include "outpost.mounted" . -}}
{{- end -}}
{{- end -}}
{{- end -}}
