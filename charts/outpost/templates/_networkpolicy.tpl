{{/* Parts of network policies. */}}

{{/* The labels of the pod of `helm test`, which services do not select. */}}
{{- define "outpost.testLabels" -}}
app.kubernetes.io/name: {{ include "outpost.name" . | trunc 58 | trimSuffix "-" }}-test
app.kubernetes.io/instance: {{ .Release.Name }}
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

{{/* The label of these backends' pods. A name that is no value of a label has another one there: then all backends are meant. */}}
{{- define "outpost.ofBackends" -}}
{{- $sound := true -}}
{{- range . -}}
{{- if or (contains "--" .) (not (regexMatch "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$" .)) -}}{{- $sound = false -}}{{- end -}}
{{- end -}}
- key: outpost.jupyter.org/spawner
{{- if $sound }}
  operator: In
  values: [{{ join ", " . }}]
{{- else }}
  operator: Exists
{{- end }}
{{- end -}}

{{/* Addresses at which clouds tell a node its credentials, as YAML: in all of them, and in Alibaba's, Azure's, Amazon's and Google's. */}}
{{- define "outpost.metadataRanges" -}}
ipv4: ["169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32"]
ipv6: ["fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128"]
{{- end -}}

{{/* Whom servers reach. Takes `singleuser`. */}}
{{- define "outpost.serversEgress" -}}
{{- $private := list "10.0.0.0/8" "100.64.0.0/10" "172.16.0.0/12" "192.168.0.0/16" -}}
{{- $metadata := include "outpost.metadataRanges" . | fromYaml -}}
{{- $metadataServer := printf "%s/32" .cloudMetadata.ip -}}
{{- $closed := concat $private $metadata.ipv4 -}}
{{- if not (hasPrefix "169.254." $metadataServer) -}}{{- $closed = append $closed $metadataServer | uniq -}}{{- end -}}
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
    - ipBlock: {cidr: {{ $metadataServer }}}
    {{- end }}
    {{- if .dnsPortsKubeSystemNamespace }}
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: kube-system}
    {{- end }}
    {{- if .dnsPortsPrivateIPs }}
    {{- range append $private "fc00::/7" }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
    {{- end }}
{{- end }}
{{- if .nonPrivateIPs }}
# All but private addresses, which are those of the cluster, too, and the cloud's metadata.
- to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: {{ $closed | toJson }}
    - ipBlock:
        cidr: "::/0"
        except: ["fc00::/7", "fe80::/10"]
{{- end }}
{{- if .privateIPs }}
# Private addresses, but for the cloud's metadata.
- to:
    - ipBlock: {cidr: 10.0.0.0/8}
    - ipBlock:
        cidr: 100.64.0.0/10
        except: [100.100.100.200/32]
    - ipBlock: {cidr: 172.16.0.0/12}
    - ipBlock: {cidr: 192.168.0.0/16}
    - ipBlock:
        cidr: "fc00::/7"
        except: {{ without $metadata.ipv6 "fe80::/10" | toJson }}
{{- end }}
{{- if .cloudMetadataServer }}
# The cloud's metadata.
- to:
    - ipBlock: {cidr: {{ $metadataServer }}}
{{- end }}
{{- end }}
{{- with .networkPolicy.egress }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}
