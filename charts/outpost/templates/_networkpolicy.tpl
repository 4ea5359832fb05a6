{{/* Parts of network policies. */}}

{{/* The labels of the pod of `helm test`, which services do not select. */}}
{{- define "outpost.testLabels" -}}
app.kubernetes.io/name: {{ include "outpost.name" . | trunc 58 | trimSuffix "-" | printf "%s-test" | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/*
Pods of a namespace as one entry of `from`. Takes the root, the namespace, a selector of pods (empty: all), and the namespace of
the policy (not there: the release's). A namespace is known by a label that Kubernetes gives it from 1.21 on; the policy's own
needs none.
*/}}
{{- define "outpost.podsOf" -}}
{{- $root := index . 0 -}}
{{- $own := $root.Release.Namespace -}}
{{- if gt (len .) 3 -}}{{- $own = index . 3 -}}{{- end -}}
{{- $entry := dict -}}
{{- if or (index . 2) (eq (index . 1) $own) -}}{{- $_ := set $entry "podSelector" (index . 2) -}}{{- end -}}
{{- if ne (index . 1) $own -}}
{{- $_ := set $entry "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" (index . 1))) -}}
{{- end -}}
{{- list $entry | toYaml -}}
{{- end -}}

{{/*
Addresses at which clouds tell a node its credentials, as YAML: in all of them, and in Alibaba's and Azure's, Amazon's, Oracle's,
Scaleway's and Google's.
*/}}
{{- define "outpost.metadataRanges" -}}
ipv4: ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32"]
ipv6: ["fe80::/10", "fd00:ec2::/32", "fd00:c1::/32", "fd00:42::/32", "fd20:ce::254/128"]
{{- end -}}

{{/*
Of `cloudMetadata`, as YAML: the `private` ranges, each with the metadata addresses in it, and what is closed where only public
addresses are open, as `ipv4` and `ipv6`.
*/}}
{{- define "outpost.closedRanges" -}}
{{- $metadata := include "outpost.metadataRanges" . | fromYaml -}}
{{- $metadata = concat $metadata.ipv4 $metadata.ipv6 -}}
{{- if not (regexMatch "^(169\\.254\\.|fe80:)" (lower .ip)) -}}
{{- $metadata = append $metadata (include "outpost.metadataServer" .) | uniq -}}
{{- end -}}
{{- $private := dict -}}
{{- $closed := $metadata -}}
{{- range $range, $addresses := dict
    "10.0.0.0/8" "^10\\."
    "100.64.0.0/10" "^100\\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])\\."
    "172.16.0.0/12" "^172\\.(1[6-9]|2[0-9]|3[01])\\."
    "192.168.0.0/16" "^192\\.168\\."
    "fc00::/7" "^f[cd]" -}}
{{- $inside := list -}}
{{- range $metadata -}}
{{- if regexMatch $addresses . -}}
{{- $inside = append $inside . -}}
{{- $closed = without $closed . -}}
{{- end -}}
{{- end -}}
{{- $_ := set $private $range $inside -}}
{{- end -}}
{{- $families := dict "ipv4" list "ipv6" list -}}
{{- range concat (keys $private | sortAlpha) $closed -}}
{{- $family := contains ":" . | ternary "ipv6" "ipv4" -}}
{{- $_ := set $families $family (append (get $families $family) .) -}}
{{- end -}}
{{- set $families "private" $private | toYaml -}}
{{- end -}}

{{/* The one address of a cloud's metadata that may be opened; of `cloudMetadata`. */}}
{{- define "outpost.metadataServer" -}}
{{ lower .ip }}{{ contains ":" .ip | ternary "/128" "/32" }}
{{- end -}}

{{/* Whom servers reach. Takes `singleuser`. */}}
{{- define "outpost.serversEgress" -}}
{{- $closed := include "outpost.closedRanges" .cloudMetadata | fromYaml -}}
{{- $metadataServer := include "outpost.metadataServer" .cloudMetadata -}}
# Hubs in this cluster.
- ports: [{port: 8081}]
  to:
    - namespaceSelector: {}
      podSelector:
        matchLabels: {app: jupyterhub, component: hub}
{{- with .networkPolicy.hubCIDRs }}
# Hubs at private addresses.
- ports: [{protocol: TCP}]
  to:
    {{- range . }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
{{- end }}
{{- with .networkPolicy.egressAllowRules }}
{{- if or .dnsPortsCloudMetadataServer .dnsPortsKubeSystemNamespace .dnsPortsPrivateIPs }}
# DNS.
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
  to:
    {{- if .dnsPortsCloudMetadataServer }}
    - ipBlock: {cidr: {{ $metadataServer | quote }}}
    {{- end }}
    {{- if .dnsPortsKubeSystemNamespace }}
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: kube-system}
    {{- end }}
    {{- if .dnsPortsPrivateIPs }}
    {{- range $range, $_ := $closed.private }}
    - ipBlock: {cidr: {{ $range | quote }}}
    {{- end }}
    {{- end }}
{{- end }}
{{- if .nonPrivateIPs }}
# All but private addresses, which are those of the cluster, too, and the cloud's metadata.
- to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: {{ $closed.ipv4 | toJson }}
    - ipBlock:
        cidr: "::/0"
        except: {{ $closed.ipv6 | toJson }}
{{- end }}
{{- if .privateIPs }}
# Private addresses, but for the cloud's metadata.
- to:
    {{- range $range, $metadata := $closed.private }}
    - ipBlock:
        cidr: {{ $range | quote }}
        {{- with $metadata }}
        except: {{ toJson . }}
        {{- end }}
    {{- end }}
{{- end }}
{{- if .cloudMetadataServer }}
# The cloud's metadata.
- to:
    - ipBlock: {cidr: {{ $metadataServer | quote }}}
{{- end }}
{{- end }}
{{- with .networkPolicy.egress }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}
