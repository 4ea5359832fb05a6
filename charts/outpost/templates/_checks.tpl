{{/* Refuses values that cannot work, each with its path and what to write instead. These render nothing. */}}

{{- define "outpost.checks" -}}
{{- include "outpost.checkPythonValues" . -}}
{{- include "outpost.checkDatabase" . -}}
{{- include "outpost.checkConfig" . -}}
{{- include "outpost.checkHubs" . -}}
{{- include "outpost.checkSecrets" . -}}
{{- include "outpost.checkServers" . -}}
{{- include "outpost.checkFiles" . -}}
{{- include "outpost.checkProfiles" . -}}
{{- end -}}

{{- define "outpost.checkPythonValues" -}}
{{- if .Values.outpostConfig -}}
{{- fail "\n\noutpostConfig: is Python, which Outpost does not run. Settings of hubs belong to `hubs` and `config`, options of KubeSpawner to `singleuser` or `config.spawners.kubernetes`, hooks become data there (pod_patch, pre_start), flavors belong to `flavors`. docs/helm.md and the README (From the Python service) say what becomes of each setting. Then take outpostConfig away." -}}
{{- end -}}
{{- if .Values.extraPythonPackages -}}
{{- fail "\n\nextraPythonPackages: has to be empty, since Outpost is one program without Python. Take it away; what a package did in a hook is a setting of `config`, as docs/helm.md says." -}}
{{- end -}}
{{- end -}}

{{- define "outpost.checkDatabase" -}}
{{- $type := .Values.database.type -}}
{{- $url := dig "store" "url" "" .Values.config | default "" -}}
{{- if and $type $url (ne (hasPrefix "postgres" $url) (eq $type "postgresql")) -}}
{{- fail (printf "\n\ndatabase.type: is %s, but config.store.url is of another database. Take database.type away: the URL says it." $type) -}}
{{- end -}}
{{- if include "outpost.databasePassword" $url -}}
{{- fail "\n\nconfig.store.url: has a password, which would be in a ConfigMap. Write the URL without it, and config.store.password: {secretKeyRef: {name: …, key: …}}, which names a key of a Secret that you made." -}}
{{- end -}}
{{- if and (gt (int .Values.replicaCount) 1) (not (include "outpost.postgresql" .)) -}}
{{- fail (printf "\n\nreplicaCount: is %d, but more than one needs PostgreSQL, which is all that replicas share. Write config.store.url: postgresql://user@host:5432/database with config.store.password, or database.type: postgresql where a Secret of extraEnvVarsSecrets has SQL_TYPE and the other variables; or replicaCount: 1." (int .Values.replicaCount)) -}}
{{- end -}}
{{- end -}}

{{/* What the chart decides has no place in `config`. */}}
{{- define "outpost.checkConfig" -}}
{{- $instead := dict
  "state_dir" "the chart's volume is mounted there; `persistence` says which"
  "http.tls_cert" "write `tlsSecret`, the name of a Secret of the type kubernetes.io/tls"
  "http.tls_key" "write `tlsSecret`, the name of a Secret of the type kubernetes.io/tls"
  "flavors.file" "write the flavors themselves into `flavors`"
  "flavors.credits_file" "write the credits themselves into `credits`" -}}
{{- range $path, $sentence := $instead -}}
{{- $keys := splitList "." $path -}}
{{- $table := $.Values.config -}}
{{- range initial $keys -}}
{{- $table = get $table . | default dict -}}
{{- end -}}
{{- if hasKey $table (last $keys) -}}
{{- fail (printf "\n\nconfig.%s: is the chart's: %s." $path $sentence) -}}
{{- end -}}
{{- end -}}
{{- range $path, $port := dict "http.listen" "8080" "http.admin_listen" "8081" "ssh.listen" "2222" -}}
{{- $keys := splitList "." $path -}}
{{- $listen := get (get $.Values.config (first $keys) | default dict) (last $keys) -}}
{{- if and $listen (not (hasSuffix (printf ":%s" $port) (toString $listen))) -}}
{{- fail (printf "\n\nconfig.%s: has to end in :%s, since services and probes lead to this port of the pod. `service.ports` and `servicessh.ports` say the ports for hubs." $path $port) -}}
{{- end -}}
{{- end -}}
{{- $spawners := .Values.config.spawners | default dict -}}
{{- range $name, $backend := $spawners -}}
{{- if not (or (eq $name "kubernetes") (dig "type" "" ($backend | default dict))) -}}
{{- fail (printf "\n\nconfig.spawners.%s.type: is needed for a backend beside `kubernetes`: \"kubernetes\" for another namespace or cluster." $name) -}}
{{- end -}}
{{- end -}}
{{- if ne (dig "kubernetes" "type" "kubernetes" $spawners) "kubernetes" -}}
{{- fail "\n\nconfig.spawners.kubernetes.type: has to be \"kubernetes\", which it is without being written. Give a backend of another type another name." -}}
{{- end -}}
{{- range $name, $backend := $spawners -}}
{{- include "outpost.checkBackend" (dict "path" (printf "config.spawners.%s" $name) "backend" $backend) -}}
{{- end -}}
{{- end -}}

{{/* What rights are made of; of {path, backend}. */}}
{{- define "outpost.checkBackend" -}}
{{- range $at, $kind := .backend.object_kinds -}}
{{- if not (regexMatch "^([A-Za-z0-9.-]+/)?[A-Za-z0-9.-]+/[A-Za-z0-9-]+$" (toString $kind)) -}}
{{- fail (printf "\n\n%s.object_kinds[%d]: has to be one kind of objects with its version, such as v1/ConfigMap or networking.k8s.io/v1/NetworkPolicy, since it becomes a right of Outpost." $.path $at) -}}
{{- end -}}
{{- end -}}
{{- include "outpost.checkNamespace" (dict "path" (printf "%s.namespace" .path) "name" .backend.namespace) -}}
{{- range $at, $name := .backend.namespaces -}}
{{- include "outpost.checkNamespace" (dict "path" (printf "%s.namespaces[%d]" $.path $at) "name" $name) -}}
{{- end -}}
{{- end -}}

{{- define "outpost.checkNamespace" -}}
{{- if and .name (not (regexMatch "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$" (toString .name))) -}}
{{- fail (printf "\n\n%s: has to be the name of a namespace: small letters, digits and `-`, at most 63. It is no template, since Outpost needs rights there." .path) -}}
{{- end -}}
{{- end -}}

{{- define "outpost.checkHubs" -}}
{{- $hubs := include "outpost.hubs" . | fromYaml -}}
{{- range $name, $_ := $hubs -}}
{{- if not (regexMatch "^[^:[:cntrl:]]{1,255}$" $name) -}}
{{- fail (printf "\n\nhubs.%s: the name of a hub has 1 to 255 characters, no colon and no control characters." (toRawJson $name)) -}}
{{- end -}}
{{- end -}}
{{- range $name := include "outpost.hubsWithoutPassword" (list . (include "outpost.writtenHubs" . | fromYaml)) | fromYamlArray -}}
{{- if not (include "outpost.isSecretKey" $name) -}}
{{- fail (printf "\n\nhubs.%s.passwords: is needed, since this name is none for a key of the Secret with the passwords that the chart makes: passwords: [{secretKeyRef: {name: …, key: …}}]." (toRawJson $name)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.sshPublicKeys (gt (len $hubs) 1) -}}
{{- fail "\n\nsshPublicKeys: does not say which of the several hubs each key is of. Write it as hubs.<name>.ssh_keys: [\"ssh-ed25519 …\"]." -}}
{{- end -}}
{{- if and .Values.test.hub (not .Values.outpostUsers) (not (hasKey $hubs .Values.test.hub)) -}}
{{- fail (printf "\n\ntest.hub: there is no hub %s in `hubs`; there is %s." (toRawJson .Values.test.hub) (keys $hubs | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}

{{- define "outpost.checkServers" -}}
{{- with .Values.singleuser -}}
{{- if and .image.tag (regexMatch "[:@][^/]*$" .image.name) -}}
{{- fail (printf "\n\nsingleuser.image.tag: stands beside a name that has its tag, %s. Write singleuser.image.name without it." .image.name) -}}
{{- end -}}
{{- if and (eq .storage.type "static") (not .storage.static.pvcName) -}}
{{- fail "\n\nsingleuser.storage.static.pvcName: is needed with storage.type static: the name of a volume claim in the namespace of servers." -}}
{{- end -}}
{{- if .cloudMetadata.blockWithIptables -}}
{{- if not .networkTools.image.name -}}
{{- fail "\n\nsingleuser.cloudMetadata.blockWithIptables: needs singleuser.networkTools.image.name (and tag), an image with iptables for a privileged container in each pod. Where the cluster's network knows policies, write false: the policy of servers closes that address, without privileges." -}}
{{- end -}}
{{- if .networkPolicy.egressAllowRules.cloudMetadataServer -}}
{{- fail "\n\nsingleuser.networkPolicy.egressAllowRules.cloudMetadataServer: opens the address that singleuser.cloudMetadata.blockWithIptables closes. Set one of them to false." -}}
{{- end -}}
{{- end -}}
{{- range $at, $variable := .extraEnv -}}
{{- if and (not (kindIs "string" $at)) (not (dig "name" "" $variable)) -}}
{{- fail (printf "\n\nsingleuser.extraEnv[%v].name: is needed where extraEnv is a list." $at) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "outpost.checkFiles" -}}
{{- with include "outpost.elsewhere" . -}}
{{- $secret := empty $.Values.singleuser.extraFiles | ternary "" "extraFiles" -}}
{{- range $name, $_ := include "outpost.secretExtraEnv" $ | fromYaml -}}
{{- $secret = printf "extraEnv.%s" $name -}}
{{- end -}}
{{- if $secret -}}
{{- fail (printf "\n\nsingleuser.%s: is kept in a Secret, which the chart cannot make %s. Put it into the image, or take it from a Secret that is there (storage.extraVolumes, extraEnv with valueFrom)." $secret .) -}}
{{- end -}}
{{- end -}}
{{- range $name, $file := .Values.singleuser.extraFiles -}}
{{- if not (include "outpost.isSecretKey" $name) -}}
{{- fail (printf "\n\nsingleuser.extraFiles.%s: its name has to consist of letters, digits, `-`, `_` and `.`, and not to begin with two dots, since it is a key of a Secret." (toRawJson $name)) -}}
{{- end -}}
{{- if ne (len (pick $file "data" "stringData" "binaryData")) 1 -}}
{{- fail (printf "\n\nsingleuser.extraFiles.%s: has to have one of stringData (text), binaryData (base64) and data (a table that is written as YAML, JSON or TOML)." $name) -}}
{{- end -}}
{{- if and (hasKey $file "data") (not (has (ext $file.mountPath) (list ".yaml" ".yml" ".json" ".toml"))) -}}
{{- fail (printf "\n\nsingleuser.extraFiles.%s.mountPath: has to end in .yaml, .yml, .json or .toml, which says how `data` is written. Other files have stringData or binaryData." $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
