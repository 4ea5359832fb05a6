{{/* TOML. Helm's own writer makes floats of integers. */}}

{{/* A document; of a table. */}}
{{- define "outpost.toml" -}}
{{- include "outpost.tomlTable" (dict "table" . "path" list "depth" 2) | trim -}}
{{- end -}}

{{/*
The keys of `table`, each on a line, and behind them its tables and lists of tables with headers that begin with `path`. Tables more
than `depth` below are in braces. No `depth`: all are.
*/}}
{{- define "outpost.tomlTable" -}}
{{- $depth := int .depth -}}
{{- $sections := list -}}
{{- range $key, $value := .table -}}
{{- if and (gt $depth 0) (kindIs "map" $value) -}}
{{- $sections = append $sections $key -}}
{{- else if and (hasKey $ "depth") (include "outpost.tomlIsListOfTables" $value) -}}
{{- $sections = append $sections $key -}}
{{- else if not (kindIs "invalid" $value) }}
{{ include "outpost.tomlKey" $key }} = {{ include "outpost.tomlValue" $value }}
{{- end -}}
{{- end -}}
{{- range $key := $sections -}}
{{- $value := get $.table $key -}}
{{- $path := append $.path (include "outpost.tomlKey" $key) -}}
{{- if kindIs "map" $value -}}
{{- $own := include "outpost.tomlTable" (dict "table" $value "path" $path "depth" (sub $depth 1)) -}}
{{- /* What has nothing but sections needs no header. */ -}}
{{- if not (hasPrefix "\n\n" $own) }}

[{{ join "." $path }}]
{{- end }}
{{- $own }}
{{- else -}}
{{- range $value }}

[[{{ join "." $path }}]]
{{- include "outpost.tomlTable" (dict "table" .) }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" for a list of tables that is too long for a line, else nothing. */}}
{{- define "outpost.tomlIsListOfTables" -}}
{{- if and (kindIs "slice" .) (gt (len (toJson .)) 100) -}}
{{- $others := list -}}
{{- range . -}}
{{- if not (kindIs "map" .) -}}{{- $others = append $others . -}}{{- end -}}
{{- end -}}
{{- if not $others -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{- define "outpost.tomlKey" -}}
{{- regexMatch "^[A-Za-z0-9_-]+$" . | ternary . (include "outpost.json" .) -}}
{{- end -}}

{{/* A value on one line: texts, numbers and booleans of JSON are those of TOML. What is null is left out of lists and tables. */}}
{{- define "outpost.tomlValue" -}}
{{- $parts := list -}}
{{- if kindIs "map" . -}}
{{- range $key, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $parts = append $parts (printf "%s = %s" (include "outpost.tomlKey" $key) (include "outpost.tomlValue" $value)) -}}
{{- end -}}
{{- end -}}
{{- if $parts }}{ {{ join ", " $parts }} }{{ else }}{}{{ end -}}
{{- else if kindIs "slice" . -}}
{{- range . -}}
{{- if not (kindIs "invalid" .) -}}
{{- $parts = append $parts (include "outpost.tomlValue" .) -}}
{{- end -}}
{{- end -}}
[{{ join ", " $parts }}]
{{- else -}}
{{- include "outpost.json" . -}}
{{- end -}}
{{- end -}}
