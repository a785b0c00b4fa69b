{{/*
What `rollcall down` does with which objects: it reads what the provisioners read, looks at what documents have made, and deletes what they
say goes.
*/}}

{{/* Fills `rules`. Give: fragments, environment, rules. */}}
{{- define "rollcall.down.rules" -}}
{{- $fragments := .fragments -}}
{{- $record := printf "configmaps/rollcall-generated-%s" (lower .environment.uid) -}}
{{- $reads := dict -}}
{{- include "rollcall.reads.postgres-init" (dict "fragments" $fragments "reads" $reads) -}}
{{- include "rollcall.reads.topic-provisioner" (dict "fragments" $fragments "reads" $reads) -}}
{{- $verbs := dict -}}
{{- range $id, $_ := $reads -}}
  {{- $parts := splitList "/" $id -}}
  {{- $_ := set $verbs (printf "%s/%s/%s" (index $parts 1) (index $parts 0) (index $parts 2)) "get" -}}
{{- end -}}
{{- $clients := false -}}
{{- range $_, $fragment := $fragments -}}{{- if $fragment.clients -}}{{- $clients = true -}}{{- end -}}{{- end -}}
{{- range $_, $fragment := $fragments -}}
  {{- $namespace := $fragment.fragment.namespace -}}
  {{- if $clients -}}
    {{- range $_, $keycloak := $fragment.keycloak -}}
      {{- range list (dig "tls" "ca" nil $keycloak) (dig "login" "secret" nil $keycloak) -}}
        {{- with . -}}
          {{- $_ := set $verbs (printf "%s/secrets/%s" (ternary (first (splitList "/" .secret)) $namespace (contains "/" .secret)) (last (splitList "/" .secret))) "get" -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $_, $fragment := $fragments -}}
  {{- /* What it makes is what secret-syncer writes. */ -}}
  {{- $uses := dict -}}
  {{- include "rollcall.secret-syncer.fragment" (dict "uses" $uses "fragment" $fragment) -}}
  {{- $policy := $fragment.policy | default dict -}}
  {{- $goes := and (eq ($policy.on_delete | default "retain") "delete") (ne ($policy.mode | default "enforce") "report") -}}
  {{- range $id, $level := $uses -}}
    {{- if gt (int $level) 0 -}}
      {{- if not (hasSuffix $record $id) -}}
        {{- $_ := set $verbs $id (ternary "get,delete" "get" $goes) -}}
      {{- else if $goes -}}
        {{- $_ := set $verbs $id "get,create,patch" -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $rules := .rules -}}
{{- $named := dict -}}
{{- range $id, $may := $verbs -}}
  {{- $parts := splitList "/" $id -}}
  {{- $rule := printf "%s/%s/%s" (index $parts 0) (index $parts 1) $may -}}
  {{- $_ := set $named $rule (append (get $named $rule | default list) (index $parts 2)) -}}
{{- end -}}
{{- range $rule, $names := $named -}}
  {{- $parts := splitList "/" $rule -}}
  {{- $new := dict "apiGroups" (list "") "resources" (list (index $parts 1)) "resourceNames" $names "verbs" (splitList "," (index $parts 2)) -}}
  {{- include "rollcall.roles.add" (dict "rules" $rules "namespace" (index $parts 0) "part" (ternary "read" "write" (eq (index $parts 2) "get")) "rule" $new) -}}
{{- end -}}
{{- end -}}
