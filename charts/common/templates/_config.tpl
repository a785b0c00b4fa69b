{{/*
What somebody else's chart says of waiting. It is put together from, the later the stronger: what is usual, the release's
`global.rollcall`, the chart's `rollcall`, and the arguments of the include.

Give everywhere below: the chart's own context, or a dict with it as `root` and arguments beside it.
*/}}

{{/* Every key there is, and what is usual: what `values.yaml` says, for charts that have it not, which is a test. */}}
{{- define "rollcall.config.usual" -}}
needs: []
module: ""
documents: ""
fragments: {}
hub: ""
hubNamespace: ""
postgresInit: ""
postgresInitNamespace: ""
timeout: ""
interval: ""
failFast: false
secrets: env
secretNames: []
serviceAccountName: ""
name: rollcall-wait
image: {registry: localhost, repository: rollcall/wait-for-dependency, tag: "", digest: "", pullPolicy: IfNotPresent}
settings: {}
resources: {}
securityContext: {}
extraEnv: []
extraVolumeMounts: []
sidecar: false
{{- end -}}

{{/* As JSON. What a chart says that is usual anyway does not count: it may only be the default of this very chart. */}}
{{- define "rollcall.config" -}}
{{- $arguments := dict -}}
{{- $root := . -}}
{{- if and (hasKey . "root") (not (hasKey . "Values")) -}}
{{- $root = .root -}}
{{- $arguments = omit . "root" -}}
{{- end -}}
{{- $usual := include "rollcall.config.usual" . | fromYaml -}}
{{- $global := omit (dig "rollcall" dict ($root.Values.global | default dict) | default dict) "environment" "mode" -}}
{{- $own := omit (get $root.Values "rollcall" | default dict) "global" -}}
{{- range $where, $said := dict "global.rollcall" $global "rollcall" $own "the arguments" $arguments -}}
{{- range $key, $_ := $said -}}
{{- if not (hasKey $usual $key) -}}
{{- fail (printf "rollcall: %s has no key `%s`; known are: %s" $where $key (keys $usual | sortAlpha | join ", ")) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $config := deepCopy $usual -}}
{{- range $said := list $global $own $arguments -}}
{{- range $key, $value := $said -}}
{{- if kindIs "map" $value -}}
{{- range $inner, $one := $value -}}
{{- if ne (toJson $one) (get (get $usual $key | default dict) $inner | toJson) -}}
{{- $_ := set (get $config $key) $inner $one -}}
{{- end -}}
{{- end -}}
{{- else if ne (toJson $value) (get $usual $key | toJson) -}}
{{- $_ := set $config $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not (has $config.secrets (list "env" "files" "api")) -}}
{{- fail (printf "rollcall.secrets: `%v` is not one of env, files, api" $config.secrets) -}}
{{- end -}}
{{- if and $config.needs $config.module -}}
{{- fail "rollcall: `needs` and `module` exclude each other; the needs of a module stand in documents" -}}
{{- end -}}
{{- if and $config.documents $config.fragments -}}
{{- fail "rollcall: `documents` (a ConfigMap that is there) and `fragments` (one that this chart makes) exclude each other" -}}
{{- end -}}
{{- if and $config.module (not $config.documents) (not $config.fragments) -}}
{{- fail (printf "rollcall.module: the needs of `%s` stand in documents: name their ConfigMap under `documents`, or give them under `fragments`" $config.module) -}}
{{- end -}}
{{- toJson $config -}}
{{- end -}}

{{/* The name of the ConfigMap with the documents. */}}
{{- define "rollcall.config.documents" -}}
{{- $config := include "rollcall.config" . | fromJson -}}
{{- $root := ternary .root . (and (hasKey . "root") (not (hasKey . "Values"))) -}}
{{- $config.documents | default (printf "%s-rollcall" (include "rollcall.shorten" (dict "text" (printf "%s-%s" $root.Release.Name $root.Chart.Name) "max" 54))) -}}
{{- end -}}

{{/* One need as JSON: `flag` and `value`, and for PostgreSQL `password` (`{secret, key}`). Give: need, index, root. */}}
{{- define "rollcall.need" -}}
{{- $where := printf "rollcall.needs[%d]" .index -}}
{{- $kinds := list "tcp" "http" "postgres" "kafka" "grpc" "keycloak" "secret" -}}
{{- if not (kindIs "map" .need) -}}
{{- fail (printf "%s: write a map with one of %s" $where (join ", " $kinds)) -}}
{{- end -}}
{{- if ne (len .need) 1 -}}
{{- fail (printf "%s: has %d keys (%s); write exactly one of %s" $where (len .need) (keys .need | sortAlpha | join ", ") (join ", " $kinds)) -}}
{{- end -}}
{{- $kind := keys .need | first -}}
{{- if not (has $kind $kinds) -}}
{{- fail (printf "%s: `%s` is nothing that can be waited for; known are %s" $where $kind (join ", " $kinds)) -}}
{{- end -}}
{{- $value := get .need $kind -}}
{{- $out := dict "flag" (printf "--%s" $kind) -}}
{{- if and (eq $kind "postgres") (kindIs "map" $value) -}}
{{- $known := list "host" "port" "database" "user" "sslmode" "url" "password" -}}
{{- range $key, $_ := $value -}}
{{- if not (has $key $known) -}}
{{- fail (printf "%s.postgres: has no key `%s`; known are: %s" $where $key (join ", " $known)) -}}
{{- end -}}
{{- end -}}
{{- if $value.url -}}
{{- $_ := set $out "value" (tpl $value.url .root) -}}
{{- else -}}
{{- range $key := list "host" "database" "user" -}}
{{- if not (get $value $key) -}}{{- fail (printf "%s.postgres.%s: is missing" $where $key) -}}{{- end -}}
{{- end -}}
{{- $parts := dict -}}
{{- range $key := list "database" "user" -}}
{{- $_ := set $parts $key (tpl (toString (get $value $key)) $.root | urlquery | replace "+" "%20") -}}
{{- end -}}
{{- $mode := ternary (printf "?sslmode=%s" $value.sslmode) "" (hasKey $value "sslmode") -}}
{{- $_ := set $out "value" (printf "postgresql://%s@%s:%s/%s%s" $parts.user (tpl $value.host .root) (tpl (toString ($value.port | default 5432)) .root) $parts.database $mode) -}}
{{- end -}}
{{- with $value.password -}}
{{- if not (and (kindIs "map" .) .secret .key (eq (len .) 2)) -}}
{{- fail (printf "%s.postgres.password: write {secret: NAME, key: KEY}; a password itself does not stand in values" $where) -}}
{{- end -}}
{{- $_ := set $out "password" (dict "secret" (tpl .secret $.root) "key" (tpl .key $.root)) -}}
{{- end -}}
{{- else if and (eq $kind "secret") (kindIs "map" $value) -}}
{{- if not (and $value.secret $value.key (eq (len $value) 2)) -}}
{{- fail (printf "%s.secret: write {secret: NAME, key: KEY}, or NAME:KEY" $where) -}}
{{- end -}}
{{- $_ := set $out "value" (printf "%s:%s" (tpl $value.secret .root) (tpl $value.key .root)) -}}
{{- else if kindIs "string" $value -}}
{{- $_ := set $out "value" (tpl $value .root) -}}
{{- else -}}
{{- fail (printf "%s.%s: is not a text" $where $kind) -}}
{{- end -}}
{{- if regexMatch "://[^/@?]*:[^/@]*@" $out.value -}}
{{- fail (printf "%s: holds a password, which everybody who may look at the pod reads; write `password: {secret: NAME, key: KEY}` beside it" $where) -}}
{{- end -}}
{{- toJson $out -}}
{{- end -}}

{{/* All needs, as a JSON list under `needs`; the Secrets they name under `secrets`; distinct passwords under `passwords`. */}}
{{- define "rollcall.needs" -}}
{{- $config := include "rollcall.config" . | fromJson -}}
{{- $root := ternary .root . (and (hasKey . "root") (not (hasKey . "Values"))) -}}
{{- $needs := list -}}
{{- $secrets := list -}}
{{- $passwords := list -}}
{{- $logins := 0 -}}
{{- range $index, $need := $config.needs -}}
{{- $read := include "rollcall.need" (dict "need" $need "index" $index "root" $root) | fromJson -}}
{{- $needs = append $needs $read -}}
{{- if eq $read.flag "--postgres" -}}{{- $logins = add1 $logins -}}{{- end -}}
{{- with $read.password -}}
{{- $passwords = append $passwords (printf "%s:%s" .secret .key) -}}
{{- $secrets = append $secrets .secret -}}
{{- end -}}
{{- if eq $read.flag "--secret" -}}{{- $secrets = append $secrets (splitList ":" $read.value | first) -}}{{- end -}}
{{- end -}}
{{- if and $passwords (lt (len $passwords) (int $logins)) (gt (len (uniq $passwords)) 1) -}}
{{- fail "rollcall.needs: some `postgres` have a `password` and some have none; give each one, or all the same" -}}
{{- end -}}
{{- $secrets = concat $secrets ($config.secretNames | default list) -}}
{{- toJson (dict "needs" $needs "secrets" ($secrets | uniq) "passwords" (ternary (uniq $passwords) $passwords (eq (len (uniq $passwords)) 1))) -}}
{{- end -}}
