{{/* The servers: z2jh's values become the options of KubeSpawner, which Outpost's backend takes. */}}

{{/* The section `[spawners.kubernetes]` as far as `singleuser` says it, as YAML. */}}
{{- define "outpost.singleuser" -}}
{{- $written := .Values.singleuser -}}
{{- $options := dict "type" "kubernetes" "namespace" ($written.namespace | default .Release.Namespace) -}}
{{- range $option, $path := include "outpost.singleuserPaths" . | fromYaml -}}
{{- $value := $written -}}
{{- range splitList "." $path -}}
{{- $value = ternary (get ($value | default dict) .) "" (kindIs "map" ($value | default dict)) -}}
{{- end -}}
{{- if or (kindIs "bool" $value) (kindIs "float64" $value) (kindIs "int64" $value) $value -}}
{{- $_ := set $options $option $value -}}
{{- end -}}
{{- end -}}
{{- /* null is nothing in the pod in z2jh, which Kubernetes takes for true. */ -}}
{{- if not (kindIs "bool" $written.allowPrivilegeEscalation) -}}
{{- $_ := set $options "allow_privilege_escalation" true -}}
{{- end -}}
{{- include "outpost.merge" (dict "into" $options "from" (include "outpost.singleuserImage" . | fromYaml)) -}}
{{- include "outpost.merge" (dict "into" $options "from" (include "outpost.singleuserStorage" . | fromYaml)) -}}
{{- include "outpost.merge" (dict "into" $options "from" (include "outpost.singleuserAccount" . | fromYaml)) -}}
{{- with include "outpost.singleuserVariables" . | fromYaml -}}
{{- $_ := set $options "environment" . -}}
{{- end -}}
{{- include "outpost.json" $options -}}
{{- end -}}

{{/* The options that are a value as it is, each with its path in `singleuser`. */}}
{{- define "outpost.singleuserPaths" -}}
namespaces: namespaces
pod_name_template: podNameTemplate
start_timeout: startTimeout
image_pull_policy: image.pullPolicy
cmd: cmd
default_url: defaultUrl
events_enabled: events
lifecycle_hooks: lifecycleHooks
init_containers: initContainers
extra_containers: extraContainers
extra_pod_config: extraPodConfig
extra_labels: extraLabels
extra_annotations: extraAnnotations
profile_list: profileList
uid: uid
fs_gid: fsGid
allow_privilege_escalation: allowPrivilegeEscalation
cpu_limit: cpu.limit
cpu_guarantee: cpu.guarantee
mem_limit: memory.limit
mem_guarantee: memory.guarantee
extra_resource_limits: extraResource.limits
extra_resource_guarantees: extraResource.guarantees
node_selector: nodeSelector
tolerations: extraTolerations
node_affinity_required: extraNodeAffinity.required
node_affinity_preferred: extraNodeAffinity.preferred
pod_affinity_required: extraPodAffinity.required
pod_affinity_preferred: extraPodAffinity.preferred
pod_anti_affinity_required: extraPodAntiAffinity.required
pod_anti_affinity_preferred: extraPodAntiAffinity.preferred
storage_extra_labels: storage.extraLabels
{{- end -}}

{{/* The image with its secrets, and what runs before the server. */}}
{{- define "outpost.singleuserImage" -}}
{{- $options := dict -}}
{{- with .Values.singleuser -}}
{{- with include "outpost.image" .image -}}
{{- $_ := set $options "image" . -}}
{{- end -}}
{{- $secrets := .image.pullSecrets | default list -}}
{{- if .cloudMetadata.blockWithIptables -}}
{{- $containers := list -}}
{{- range .initContainers -}}
{{- $containers = append $containers . -}}
{{- end -}}
{{- $_ := set $options "init_containers" (append $containers (include "outpost.blockMetadata" . | fromYaml)) -}}
{{- $secrets = concat $secrets (.networkTools.image.pullSecrets | default list) | uniq -}}
{{- end -}}
{{- with $secrets -}}
{{- $_ := set $options "image_pull_secrets" . -}}
{{- end -}}
{{- end -}}
{{- include "outpost.json" $options -}}
{{- end -}}

{{/* The name of an image with its tag; of {name: …, tag: …}. */}}
{{- define "outpost.image" -}}
{{- with .name }}{{ . }}{{ with $.tag }}:{{ . }}{{ end }}{{ end -}}
{{- end -}}

{{/* The container that closes the metadata address for a pod in a cluster without network policies. */}}
{{- define "outpost.blockMetadata" -}}
name: block-cloud-metadata
image: {{ include "outpost.image" .networkTools.image | quote }}
{{- with .networkTools.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
command: [iptables, --append, OUTPUT, --protocol, tcp, --destination, {{ .cloudMetadata.ip | quote }}, --destination-port, "80", --jump, DROP]
securityContext: {privileged: true, runAsUser: 0, capabilities: {add: [NET_ADMIN]}}
{{- with .networkTools.resources }}
resources: {{ toJson . }}
{{- end }}
{{- end -}}

{{/* Volumes and mounts, as tables with the keys that z2jh gives them, so that profiles written for it fit. */}}
{{- define "outpost.singleuserStorage" -}}
{{- $storage := .Values.singleuser.storage -}}
{{- $options := dict -}}
{{- $volumes := dict -}}
{{- $mounts := dict -}}
{{- if eq $storage.type "dynamic" -}}
{{- $name := $storage.dynamic.volumeNameTemplate | default "volume-{user_server}" -}}
{{- $_ := set $options "storage_pvc_ensure" true -}}
{{- range $option, $value := dict
    "storage_capacity" $storage.capacity
    "storage_class" $storage.dynamic.storageClass
    "storage_access_modes" $storage.dynamic.storageAccessModes
    "pvc_name_template" $storage.dynamic.pvcNameTemplate -}}
{{- if $value -}}
{{- $_ := set $options $option $value -}}
{{- end -}}
{{- end -}}
{{- $_ := set $volumes $name (dict "name" $name "persistentVolumeClaim" (dict "claimName" "{pvc_name}")) -}}
{{- $_ := set $mounts $name (dict "name" $name "mountPath" $storage.homeMountPath) -}}
{{- with $storage.dynamic.subPath -}}
{{- $_ := set (get $mounts $name) "subPath" . -}}
{{- end -}}
{{- else if eq $storage.type "static" -}}
{{- $_ := set $volumes "home" (dict "name" "home" "persistentVolumeClaim" (dict "claimName" $storage.static.pvcName)) -}}
{{- $_ := set $mounts "home" (dict "name" "home" "mountPath" $storage.homeMountPath) -}}
{{- with $storage.static.subPath -}}
{{- $_ := set $mounts.home "subPath" . -}}
{{- end -}}
{{- end -}}
{{- with .Values.singleuser.extraFiles -}}
{{- $items := list -}}
{{- range $key, $file := . -}}
{{- $item := dict "key" $key "path" $key -}}
{{- with $file.mode -}}
{{- $_ := set $item "mode" . -}}
{{- end -}}
{{- $items = append $items $item -}}
{{- $_ := set $mounts (printf "%d-files" (len $items | add -1)) (dict "name" "files" "mountPath" $file.mountPath "subPath" $key) -}}
{{- end -}}
{{- $_ := set $volumes "files" (dict "name" "files" "secret" (dict "secretName" (include "outpost.singleuserSecret" $) "items" $items)) -}}
{{- end -}}
{{- range $key, $volume := $storage.extraVolumes -}}
{{- $_ := set $volumes (kindIs "string" $key | ternary $key $volume.name) $volume -}}
{{- end -}}
{{- range $key, $mount := $storage.extraVolumeMounts -}}
{{- $_ := set $mounts (kindIs "string" $key | ternary $key (printf "%v-%s" $key $mount.name)) $mount -}}
{{- end -}}
{{- if $volumes -}}
{{- $_ := set $options "volumes" $volumes -}}
{{- end -}}
{{- if $mounts -}}
{{- $_ := set $options "volume_mounts" $mounts -}}
{{- end -}}
{{- include "outpost.json" $options -}}
{{- end -}}

{{/* The Secret in each namespace of servers with `extraFiles` and with variables that are secret. */}}
{{- define "outpost.singleuserSecret" -}}
{{- include "outpost.fullname" . }}-singleuser
{{- end -}}

{{/* The account that the chart makes for servers, in each of their namespaces. */}}
{{- define "outpost.serversAccount" -}}
{{- include "outpost.fullname" . }}-servers
{{- end -}}

{{/* Why servers may be where the chart puts nothing, or nothing: in namespaces that are made for users, or in another cluster. */}}
{{- define "outpost.elsewhere" -}}
{{- $written := dig "spawners" "kubernetes" dict .Values.config | default dict -}}
{{- if or $written.kubeconfig $written.context -}}
in another cluster
{{- else if regexMatch "\"enable_user_namespaces\":true" (toJson (list $written .Values.singleuser.profileList)) -}}
in namespaces that are made for users
{{- end -}}
{{- end -}}

{{/* The account of servers. Without its token in the pods, unless it is one of the site's. */}}
{{- define "outpost.singleuserAccount" -}}
{{- with .Values.singleuser.serviceAccountName -}}
service_account: {{ . | quote }}
{{- else -}}
service_account: {{ include "outpost.serversAccount" . | quote }}
automount_service_account_token: false
{{- end -}}
{{- end -}}

{{/*
Puts into the section of a backend what makes pods pass the level `restricted`, unless the section itself needs more. Profiles that need
more get it for their own servers. It is the server's container that is not root, since containers before and beside it may have to be.
*/}}
{{- define "outpost.restrict" -}}
{{- $pod := dict "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- include "outpost.merge" (dict "into" $pod "from" (.pod_security_context | default dict)) -}}
{{- $_ := set . "pod_security_context" $pod -}}
{{- if and .uid (not (include "outpost.needsMore" .)) -}}
{{- $container := dict "runAsNonRoot" true "capabilities" (dict "drop" (list "ALL")) -}}
{{- include "outpost.merge" (dict "into" $container "from" (.container_security_context | default dict)) -}}
{{- $_ := set . "container_security_context" $container -}}
{{- include "outpost.lift" .profile_list -}}
{{- end -}}
{{- end -}}

{{/* What of these options needs more than `restricted` gives, or nothing: root, which the image may want, or privileges. */}}
{{- define "outpost.needsMore" -}}
{{- $own := pick . "uid" "privileged" "allow_privilege_escalation" "container_security_context" "extra_container_config" | toJson -}}
{{- regexFind "\"(uid|runAsUser|run_as_user)\":(0|null)[,}]|\"(privileged|allow_?[pP]rivilege_?[eE]scalation)\":true" $own -}}
{{- end -}}

{{/* Gives the overrides in a tree of profiles that need more what the section does not give. */}}
{{- define "outpost.lift" -}}
{{- $overrides := dict -}}
{{- include "outpost.findOverrides" (dict "tree" . "path" "" "found" $overrides) -}}
{{- range $override := $overrides -}}
{{- if include "outpost.needsMore" $override -}}
{{- $container := dict "runAsNonRoot" false "capabilities" (dict "drop" list) -}}
{{- $_ := set $override "container_security_context" (merge ($override.container_security_context | default dict) $container) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Variables of servers: `extraEnv` of z2jh, which is a table or a list. Those that are secret are in a Secret. */}}
{{- define "outpost.singleuserVariables" -}}
{{- $variables := include "outpost.extraEnv" . | fromYaml -}}
{{- range $name, $_ := include "outpost.secretExtraEnv" . | fromYaml -}}
{{- $reference := dict "name" (include "outpost.singleuserSecret" $) "key" (printf "variable.%s" $name) -}}
{{- $_ := set $variables $name (dict "valueFrom" (dict "secretKeyRef" $reference)) -}}
{{- end -}}
{{- include "outpost.json" $variables -}}
{{- end -}}

{{/* `extraEnv` by the names of variables: texts, or {valueFrom: …}. */}}
{{- define "outpost.extraEnv" -}}
{{- $variables := dict -}}
{{- range $key, $value := .Values.singleuser.extraEnv -}}
{{- $name := $key -}}
{{- if kindIs "map" $value -}}
{{- $name = $value.name | default $key -}}
{{- $value = hasKey $value "value" | ternary $value.value (omit $value "name") -}}
{{- end -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $variables $name (or (kindIs "string" $value) (kindIs "map" $value) | ternary $value (toJson $value)) -}}
{{- end -}}
{{- end -}}
{{- include "outpost.json" $variables -}}
{{- end -}}

{{/* Of these, those that are secrets. */}}
{{- define "outpost.secretExtraEnv" -}}
{{- $names := dig "spawners" "kubernetes" dict .Values.config | include "outpost.secretNames" -}}
{{- $variables := dict -}}
{{- range $name, $value := include "outpost.extraEnv" . | fromYaml -}}
{{- if include "outpost.isSecret" (list $name $value $names) -}}
{{- $_ := set $variables $name $value -}}
{{- end -}}
{{- end -}}
{{- include "outpost.json" $variables -}}
{{- end -}}

{{/* The content of one of `extraFiles`, in base64. */}}
{{- define "outpost.extraFile" -}}
{{- if hasKey . "binaryData" -}}
{{- nospace .binaryData -}}
{{- else if hasKey . "stringData" -}}
{{- b64enc .stringData -}}
{{- else if eq (ext .mountPath) ".json" -}}
{{- toRawJson .data | b64enc -}}
{{- else if eq (ext .mountPath) ".toml" -}}
{{- include "outpost.toml" .data | b64enc -}}
{{- else -}}
{{- toYaml .data | b64enc -}}
{{- end -}}
{{- end -}}
