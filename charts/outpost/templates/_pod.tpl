{{/* Parts of pods and of what leads to them. */}}

{{- define "outpost.ownImage" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/* Names of secrets, or {name: …}, as Kubernetes wants them. */}}
{{- define "outpost.imagePullSecrets" -}}
{{- with .Values.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ if kindIs "string" . }}{{ . | quote }}{{ else }}{{ .name | quote }}{{ end }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* The volume claim of the database and the state; nothing: they go with the pod. */}}
{{- define "outpost.claim" -}}
{{- if and .Values.persistence.enabled (not (include "outpost.postgresql" .)) -}}
{{- .Values.persistence.existingClaim | default (include "outpost.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* From where a service is reached. Takes its values. */}}
{{- define "outpost.exposure" -}}
type: {{ .type | quote }}
{{- if eq .type "LoadBalancer" }}
{{- with .loadBalancerIP }}
loadBalancerIP: {{ . | quote }}
{{- end }}
{{- with .loadBalancerSourceRanges }}
loadBalancerSourceRanges:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- if ne .type "ClusterIP" }}
{{- with .externalTrafficPolicy }}
externalTrafficPolicy: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The seconds of a duration of the configuration, rounded up: a number, or a text like "1h 30m". */}}
{{- define "outpost.seconds" -}}
{{- $units := dict "d" 86400 "h" 3600 "m" 60 "s" 1 -}}
{{- $seconds := 0.0 -}}
{{- if not (kindIs "string" .) -}}
{{- $seconds = float64 . -}}
{{- else -}}
{{- range regexFindAll "[0-9]+ *[a-z]+" . -1 -}}
{{- $number := regexFind "[0-9]+" . | float64 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- if hasPrefix "ms" $unit -}}{{- $seconds = addf $seconds (divf $number 1000) -}}
{{- else -}}{{- $seconds = addf $seconds (mulf $number (get $units (trunc 1 $unit) | default 0)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- ceil $seconds | int64 -}}
{{- end -}}

{{/* How long requests and SSH connections may take to end, and a little more. */}}
{{- define "outpost.gracePeriod" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- $config := include "outpost.config" . | fromYaml -}}
{{- $seconds := 15 -}}
{{- range list (dig "http" "drain_delay" "0s" $config) (dig "http" "shutdown_timeout" "20s" $config) (dig "ssh" "drain_timeout" "10s" $config) -}}
{{- $seconds = add $seconds (include "outpost.seconds" . | int64) -}}
{{- end -}}
{{- $seconds -}}
{{- else -}}
{{- int64 .Values.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}
