{{/* The values of OpenG2P's chart, as a fragment. */}}

{{/* What the release says for all its charts, as JSON. */}}
{{- define "rollcall.postgres-init.global" -}}
{{- dig "rollcall" dict (.Values.global | default dict) | default dict | toJson -}}
{{- end -}}

{{- define "rollcall.postgres-init.mode" -}}
{{- $mode := (include "rollcall.postgres-init.global" . | fromJson).mode | default .Values.mode -}}
{{- if not (has $mode (list "report" "enforce")) -}}
{{- fail (printf "mode: `%v` is neither report nor enforce" $mode) -}}
{{- end -}}
{{- $mode -}}
{{- end -}}

{{/* The server, as JSON, with its templates filled. */}}
{{- define "rollcall.postgres-init.server" -}}
{{- $server := .Values.postgresql -}}
{{- $password := dict "secret" (tpl $server.existingSecret .) "key" (tpl $server.existingSecretPostgresPasswordKey .) -}}
{{- $host := tpl $server.host . -}}
{{- toJson (dict "host" $host "port" (tpl (toString $server.port) . | int) "tls" $server.tls "admin" (dict "user" (tpl $server.user .) "password" $password)) -}}
{{- end -}}

{{/* Which environment it is, as JSON. */}}
{{- define "rollcall.postgres-init.identity" -}}
{{- $global := (include "rollcall.postgres-init.global" . | fromJson).environment | default dict -}}
{{- $name := .Values.environment.name | default $global.name | default .Release.Namespace -}}
{{- $uid := .Values.environment.uid | default $global.uid -}}
{{- if not $uid -}}
{{- if eq (include "rollcall.postgres-init.mode" .) "enforce" -}}
{{- fail "environment.uid: is missing; databases that are made carry it as their owner's. `rollcall init` mints one; keep it, also across reinstalls" -}}
{{- end -}}
{{- /* A report records nothing, so any will do; one that stays the same keeps the Job the same. */ -}}
{{- $hash := sha256sum (printf "%s/%s" .Release.Namespace .Release.Name) -}}
{{- $uid = printf "%s-%s-8%s-8%s-%s" (substr 0 8 $hash) (substr 8 12 $hash) (substr 12 15 $hash) (substr 15 18 $hash) (substr 18 30 $hash) -}}
{{- end -}}
{{- toJson (dict "name" $name "uid" $uid) -}}
{{- end -}}

{{/* All fragments, as JSON: those under `fragments`, and the one that `databases` are. */}}
{{- define "rollcall.postgres-init.fragments" -}}
{{- $fragments := deepCopy .Values.fragments -}}
{{- if .Values.databases -}}
{{- if contains "openg2p/postgres-init" (toString .Values.image.repository) -}}
{{- fail (printf "image.repository: %s is the image of the old script, which this chart does not speak to; leave it out" .Values.image.repository) -}}
{{- end -}}
{{- $root := . -}}
{{- /* Several such charts are fragments of one environment. What they share none of them declares (a name that stands twice refuses
both): each calls the server by its own name, and whose the administrator's Secret is it leaves open. */ -}}
{{- $name := include "rollcall.shorten" (dict "text" (include "rollcall.fullname" . | replace "." "-") "max" 63) -}}
{{- $databases := dict -}}
{{- $secrets := dict -}}
{{- range $index, $entry := .Values.databases -}}
  {{- $called := tpl $entry.name $root -}}
  {{- $key := lower $called -}}
  {{- if hasKey $databases $key -}}
    {{- fail (printf "databases[%d].name: `%s` stands there twice; each would set the other's password" $index $called) -}}
  {{- end -}}
  {{- $secret := tpl $entry.secret $root -}}
  {{- $passwordKey := tpl $entry.secretUserPasswordKey $root -}}
  {{- $app := dict "name" (tpl $entry.user $root) "password" (dict "secret" $secret "key" $passwordKey) "ddl" "as-owner" -}}
  {{- $database := dict "server" $name "name" $called "roles" (dict "app" $app) -}}
  {{- with $entry.extensions -}}
    {{- $extensions := . -}}
    {{- if kindIs "string" . -}}{{- $extensions = splitList "," . -}}{{- end -}}
    {{- $trimmed := list -}}
    {{- range $extensions -}}{{- with trim . -}}{{- $trimmed = append $trimmed . -}}{{- end -}}{{- end -}}
    {{- $_ := set $database "extensions" $trimmed -}}
  {{- end -}}
  {{- $_ := set $databases $key $database -}}
  {{- $made := get $secrets $secret | default (dict "external" true) -}}
  {{- $wish := ternary $entry.generate $root.Values.passwords.generate (hasKey $entry "generate") -}}
  {{- if $wish -}}
    {{- $keys := get $made "generate" | default dict -}}
    {{- $protects := append (get $made "protects" | default list) (printf "database/%s" $key) -}}
    {{- if and $made.external (hasKey $secrets $secret) -}}
      {{- fail (printf "databases[%d]: another entry keeps its password in Secret %s and has it not generated; a Secret is generated whole or not at all" $index $secret) -}}
    {{- end -}}
    {{- $made = dict "generate" (set $keys $passwordKey (dict "kind" "password")) "protects" $protects -}}
  {{- end -}}
  {{- if and (not $wish) $made.generate -}}
    {{- fail (printf "databases[%d]: another entry has Secret %s generated; a Secret is generated whole or not at all" $index $secret) -}}
  {{- end -}}
  {{- $_ := set $secrets $secret $made -}}
{{- end -}}
{{- $server := include "rollcall.postgres-init.server" . | fromJson -}}
{{- $fragment := dict "rollcall" "v1" "environment" (include "rollcall.postgres-init.identity" . | fromJson) -}}
{{- $_ := set $fragment "fragment" (dict "name" $name "namespace" .Release.Namespace) -}}
{{- $_ := set $fragment "policy" (dict "mode" (include "rollcall.postgres-init.mode" .)) -}}
{{- $_ := set $fragment "postgres" (dict $name $server) -}}
{{- $_ := set $fragment "databases" $databases -}}
{{- $_ := set $fragment "secrets" $secrets -}}
{{- $_ := set $fragments "openg2p-databases" $fragment -}}
{{- end -}}
{{- toJson $fragments -}}
{{- end -}}
