{{/* Secrets have no place in the ConfigMap, nor in the Deployment: what tells them, and what refuses them. */}}

{{- define "outpost.checkSecrets" -}}
{{- include "outpost.checkPlaces" . -}}
{{- $backends := .Values.config.spawners | default dict -}}
{{- $names := get $backends "kubernetes" | include "outpost.secretNames" -}}
{{- $servers := omit .Values.singleuser "extraEnv" "extraFiles" -}}
{{- include "outpost.checkOpen" (dict "path" "singleuser" "value" $servers "names" $names) -}}
{{- range $name, $value := include "outpost.openExtraEnv" . | fromYaml -}}
{{- include "outpost.checkOpen" (dict "path" (printf "singleuser.extraEnv.%s" $name) "value" $value "names" $names) -}}
{{- end -}}
{{- range $name, $backend := $backends -}}
{{- include "outpost.checkOpen" (dict "path" (printf "config.spawners.%s" $name) "value" $backend "names" (include "outpost.secretNames" $backend)) -}}
{{- end -}}
{{- $config := omit .Values.config "spawners" -}}
{{- $names = include "outpost.secretNames" dict -}}
{{- range $path, $value := dict "config" $config "hubs" .Values.hubs "sshPublicKeys" .Values.sshPublicKeys "flavors" .Values.flavors "credits" .Values.credits -}}
{{- include "outpost.checkOpen" (dict "path" $path "value" $value "names" $names) -}}
{{- end -}}
{{- range $path, $value := dict "config" $config "hubs" .Values.hubs -}}
{{- include "outpost.checkReferences" (dict "path" $path "value" $value) -}}
{{- end -}}
{{- range $at, $variable := .Values.extraEnvVars -}}
{{- /* What comes from other variables is looked up by Kubernetes. */ -}}
{{- $value := regexReplaceAll "\\$\\([-._A-Za-z0-9]+\\)" ($variable.value | default "") "" -}}
{{- if and $value (or (regexMatch $names $variable.name) (include "outpost.databasePassword" $value)) -}}
{{- fail (printf "\n\nextraEnvVars[%d].value: %s is a secret by its name, or a URL with a password, and would be in the Deployment. Write valueFrom: {secretKeyRef: {name: …, key: …}} instead of value, or put the variable into a Secret that extraEnvVarsSecrets names." $at $variable.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Wherever Outpost reads a secret, the values say where it is. */}}
{{- define "outpost.checkPlaces" -}}
{{- range $path, $hubs := dict "hubs" .Values.hubs "config.hubs" .Values.config.hubs -}}
{{- range $name, $hub := $hubs -}}
{{- $path := printf "%s.%s" $path $name -}}
{{- range $key := list "flavors_update_token" "ssh_recreate_token" -}}
{{- include "outpost.checkSecret" (dict "path" (printf "%s.%s" $path $key) "value" (dig $key nil ($hub | default dict))) -}}
{{- end -}}
{{- include "outpost.checkSecret" (dict "path" (printf "%s.dial.key" $path) "value" (dig "dial" "key" nil ($hub | default dict))) -}}
{{- include "outpost.checkSecretList" (dict "path" (printf "%s.passwords" $path) "value" (dig "passwords" list ($hub | default dict))) -}}
{{- end -}}
{{- end -}}
{{- range $name, $agent := .Values.config.forward_agents -}}
{{- include "outpost.checkSecret" (dict "path" (printf "config.forward_agents.%s.key" $name) "value" (dig "key" nil ($agent | default dict))) -}}
{{- end -}}
{{- include "outpost.checkSecret" (dict "path" "config.store.password" "value" (dig "store" "password" nil .Values.config)) -}}
{{- if and .Values.cryptSecret (dig "store" "keys" "" .Values.config) -}}
{{- fail "\n\nconfig.store.keys: stands beside cryptSecret. Write one of them: config.store.keys for several Secrets, of which the first key encrypts, or cryptSecret for the key `secret_key` of one." -}}
{{- end -}}
{{- include "outpost.checkSecretList" (dict "path" "config.store.keys" "value" (dig "store" "keys" list .Values.config)) -}}
{{- end -}}

{{- define "outpost.checkSecretList" -}}
{{- if .value -}}
{{- if not (kindIs "slice" .value) -}}
{{- fail (printf "\n\n%s: has to be a list: [{secretKeyRef: {name: …, key: …}}], which names a key of a Secret that you made." .path) -}}
{{- end -}}
{{- range $at, $value := .value -}}
{{- include "outpost.checkSecret" (dict "path" (printf "%s[%d]" $.path $at) "value" (kindIs "invalid" $value | ternary dict $value)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Of {path, value}; null is nothing. */}}
{{- define "outpost.checkSecret" -}}
{{- if not (kindIs "invalid" .value) -}}
{{- $places := kindIs "map" .value | ternary .value dict -}}
{{- $isPlace := has (keys $places | join " ") (list "file" "env" "secretKeyRef") -}}
{{- if hasKey $places "secretKeyRef" -}}
{{- $reference := kindIs "map" $places.secretKeyRef | ternary $places.secretKeyRef dict -}}
{{- $isPlace = eq (keys $reference | sortAlpha | join " ") "key name" -}}
{{- end -}}
{{- if not $isPlace -}}
{{- fail (printf "\n\n%s: has to say where the secret is, and not what it is, since all of this is in a ConfigMap: {secretKeyRef: {name: …, key: …}}, which names a key of a Secret that you made, {file: /path} or {env: NAME}." .path) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Each `secretKeyRef` in a tree of {path, value} becomes the path of a file. */}}
{{- define "outpost.checkReferences" -}}
{{- with kindIs "map" .value | ternary .value dict -}}
{{- if kindIs "map" .secretKeyRef -}}
{{- if not (and (kindIs "string" .secretKeyRef.name) (regexMatch "^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$" .secretKeyRef.name)) -}}
{{- fail (printf "\n\n%s.secretKeyRef.name: has to be the name of a Secret, as a text: small letters, digits, `-` and `.`." $.path) -}}
{{- end -}}
{{- if not (and (kindIs "string" .secretKeyRef.key) (include "outpost.isSecretKey" (toString .secretKeyRef.key))) -}}
{{- fail (printf "\n\n%s.secretKeyRef.key: has to be a key of a Secret, as a text: letters, digits, `-`, `_` and `.`, and neither `.` nor two dots at its beginning." $.path) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key, $value := .value -}}
{{- if or (kindIs "map" $value) (kindIs "slice" $value) -}}
{{- include "outpost.checkReferences" (dict "path" (include "outpost.path" (list $.path $key)) "value" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "true" for a text that can be a key of a Secret and the name of a file, else nothing. */}}
{{- define "outpost.isSecretKey" -}}
{{- if and (regexMatch "^[-._a-zA-Z0-9]{1,253}$" .) (ne . ".") (not (hasPrefix ".." .)) -}}true{{- end -}}
{{- end -}}

{{/* The path of a key or a place in what has a path; of a list of both. */}}
{{- define "outpost.path" -}}
{{- if kindIs "string" (index . 1) }}{{ printf "%s.%s" (index . 0) (index . 1) }}{{ else }}{{ printf "%s[%v]" (index . 0) (index . 1) }}{{ end -}}
{{- end -}}

{{/*
Refuses secrets in a tree that is in the ConfigMap: variables, wherever they are, Secrets among the objects, and texts that have one in
them. Takes {path, value, names}: the last is an expression for the names of variables that are secrets.
*/}}
{{- define "outpost.checkOpen" -}}
{{- if kindIs "string" .value -}}
{{- include "outpost.checkText" . -}}
{{- else if kindIs "map" .value -}}
{{- if and (kindIs "string" .value.name) (include "outpost.isSecret" (list .value.name .value.value .names)) -}}
{{- include "outpost.refuseVariable" (printf "%s.value" .path) -}}
{{- end -}}
{{- if eq (toString .value.kind) "Secret" -}}
{{- range $part, $texts := pick .value "data" "stringData" "string_data" -}}
{{- range $key, $text := $texts -}}
{{- if and $text (not (include "outpost.isFilledIn" (toString $text))) -}}
{{- fail (printf "\n\n%s.%s.%s: is a part of a Secret, and would be in a ConfigMap. Make the Secret in the namespace of servers yourself, and name it where it is used; or write it into singleuser.extraFiles or singleuser.extraEnv, which are kept in one." $.path $part $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if or (kindIs "map" .value) (kindIs "slice" .value) -}}
{{- range $key, $value := .value -}}
{{- $path := include "outpost.path" (list $.path $key) -}}
{{- if and (has $key (list "environment" "env")) (kindIs "map" $value) -}}
{{- range $name, $variable := $value -}}
{{- $text := kindIs "map" $variable | ternary "" $variable -}}
{{- if kindIs "map" $variable -}}{{- $text = $variable.value -}}{{- end -}}
{{- if include "outpost.isSecret" (list $name $text $.names) -}}
{{- include "outpost.refuseVariable" (printf "%s.%s" $path $name) -}}
{{- end -}}
{{- end -}}
{{- else if and $value (kindIs "string" $value) (regexMatch "(?i)password$" (toString $key)) (not (include "outpost.isFilledIn" $value)) -}}
{{- fail (printf "\n\n%s: is a secret by its name, and would be in a ConfigMap. Say in which Secret it is, in the way that is foreseen there." $path) -}}
{{- end -}}
{{- include "outpost.checkOpen" (dict "path" $path "value" $value "names" $.names) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "outpost.refuseVariable" -}}
{{- fail (printf "\n\n%s: is a secret by its name or as a URL with a user, and would be in a ConfigMap. Write valueFrom: {secretKeyRef: {name: …, key: …}} in its place, which names a key of a Secret in the namespace of servers; or write it into singleuser.extraEnv, which is kept in one. If it is none, write secret_environment, the names that are, into the section of config.spawners." .) -}}
{{- end -}}

{{/* A text with a secret in it; of {path, value}. */}}
{{- define "outpost.checkText" -}}
{{- $found := "" -}}
{{- if regexMatch "-----BEGIN [A-Z0-9 ]*PRIVATE KEY" .value -}}
{{- $found = "a private key" -}}
{{- else if include "outpost.hasPassword" .value -}}
{{- $found = "a URL with a password" -}}
{{- else if regexMatch "(?i)(password|passwd)=[\"']?[^\\s\"'{$&;,)]" .value -}}
{{- $found = "a password" -}}
{{- end -}}
{{- with $found -}}
{{- fail (printf "\n\n%s: has %s in it, which would be in a ConfigMap. Take it from a Secret: as a variable with valueFrom, or as a file of a volume." $.path .) -}}
{{- end -}}
{{- end -}}

{{/* "true" for a text with a URL that has a password in it, else nothing. What is filled in later does not count. */}}
{{- define "outpost.hasPassword" -}}
{{- $parameter := "[?&][^\\s=&]*(p|%70|%50)(a|%61|%41)(s|%73|%53)(s|%73|%53)[^\\s=&]*=[^\\s&{$]" -}}
{{- if regexMatch (printf "(?i)://([^\\s/?#@]*:[^\\s/?#@{$]+@|\\S*%s)" $parameter) . -}}true{{- end -}}
{{- end -}}

{{/* The same for the URL of a database, in whose passwords anything may be. */}}
{{- define "outpost.databasePassword" -}}
{{- if or (regexMatch "//[^@]*:[^@]+@" .) (include "outpost.hasPassword" .) -}}true{{- end -}}
{{- end -}}

{{/* "true" if a variable is a secret: by its name, if it is no switch, or as a URL with a user; of a list of its name, its value, and `names`. */}}
{{- define "outpost.isSecret" -}}
{{- $value := index . 1 -}}
{{- if and $value (or (kindIs "string" $value) (kindIs "float64" $value) (kindIs "int64" $value)) -}}
{{- $isSwitch := regexMatch "(?i)^(true|false|yes|no|on|off|none|[0-9])$" (toString $value) -}}
{{- if or (and (not $isSwitch) (regexMatch (index . 2) (index . 0))) (regexMatch "://[^\\s/?#]*@" (toString $value)) -}}
{{- if not (include "outpost.isFilledIn" (toString $value)) -}}true{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* An expression for the names of variables that are secrets: those that fit `secret_environment`. Takes the section of a backend. */}}
{{- define "outpost.secretNames" -}}
{{- $globs := (. | default dict).secret_environment | default (list "*TOKEN*" "*SECRET*" "*PASS*" "*PWD*" "*CREDENTIAL*" "*_KEY" "*APIKEY*" "*AUTH*") -}}
{{- $names := list -}}
{{- range kindIs "string" $globs | ternary (list $globs) $globs -}}
{{- $names = append $names (toString . | regexQuoteMeta | replace "\\*" ".*" | replace "\\?" ".") -}}
{{- end -}}
(?is)^({{ join "|" $names }})$
{{- end -}}

{{/* "true" for a text that is filled in for each server: by a field of templates, or by another variable, else nothing. */}}
{{- define "outpost.isFilledIn" -}}
{{- $fields := "\\{((unescaped_|safe_|escaped_)?(username|servername)|(safe_|escaped_)?user_server|userid|hub|hubnamespace|uid|namespace|pod_name|pvc_name|value)\\}" -}}
{{- if or (regexMatch $fields (. | replace "{{" "" | replace "}}" "")) (regexMatch "\\$\\([-._A-Za-z0-9]+\\)" (replace "$$" "" .)) -}}true{{- end -}}
{{- end -}}

{{/* Of the variables in `singleuser.extraEnv`, those that are in the ConfigMap, as YAML. */}}
{{- define "outpost.openExtraEnv" -}}
{{- $variables := include "outpost.extraEnv" . | fromYaml -}}
{{- range $name, $_ := include "outpost.secretExtraEnv" . | fromYaml -}}
{{- $_ := unset $variables $name -}}
{{- end -}}
{{- include "outpost.json" $variables -}}
{{- end -}}
