{{/* The configuration: what becomes of hubs, config, singleuser and the values of the Python service's chart. */}}

{{/* The effective configuration as YAML; secrets are already the paths of mounted files. */}}
{{- define "outpost.config" -}}
http: {listen: "0.0.0.0:8080", admin_listen: "0.0.0.0:8081"}
spawners:
  kubernetes: {type: kubernetes, namespace: {{ .Release.Namespace | quote }}}
{{- end -}}

{{/* "true" if the database is PostgreSQL, else nothing. */}}
{{- define "outpost.postgresql" -}}
{{- if eq .Values.database.type "postgresql" }}true{{ end -}}
{{- end -}}

{{/* "true" if there is an SSH server, else nothing. */}}
{{- define "outpost.ssh" -}}
{{- if .Values.servicessh.enabled }}true{{ end -}}
{{- end -}}

{{/* The items of the projected volume that is mounted at /etc/outpost-secrets: `sources` of each secret, as a YAML list. */}}
{{- define "outpost.secretSources" -}}
[]
{{- end -}}

{{/* Variables of the container that hold secrets (`outpostUsers`), as a YAML list. */}}
{{- define "outpost.secretVariables" -}}
[]
{{- end -}}

{{/* The pod's annotations that change when a restart is needed, as YAML. */}}
{{- define "outpost.checksums" -}}
{}
{{- end -}}

{{/* Refuses values that cannot work together, each with a sentence. Renders nothing. */}}
{{- define "outpost.checks" -}}
{{- end -}}
