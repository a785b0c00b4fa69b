{{/*
The Roles that the fragments ask for: the same that `rollcall rbac` prints, which is a test. Each use of an object is noted
in a dict by namespace, role, resource and name, with the most that anything asks for: 0 read, 1 write, 2 write and delete.
*/}}

{{/* Notes one use. Give: uses, resource, name (`name` or `namespace/name`), namespace of the fragment, level. */}}
{{- define "rollcall.secret-syncer.use" -}}
{{- $parts := splitList "/" .name -}}
{{- $namespace := ternary (first $parts) .namespace (eq (len $parts) 2) -}}
{{- $id := printf "%s/%s/%s" $namespace .resource (last $parts) -}}
{{- $_ := set .uses $id (max .level (get .uses $id | default 0)) -}}
{{- end -}}

{{/* Notes what a copy reads and writes. Give: uses, resource, name, namespace, copy. */}}
{{- define "rollcall.secret-syncer.copy" -}}
{{- $use := omit . "copy" "name" -}}
{{- /* What labels choose is for the central one alone, whose rights are not by name. */ -}}
{{- if and (kindIs "string" .copy.from) (or .copy.to (not .copy.namespace_selector)) -}}
{{- include "rollcall.secret-syncer.use" (merge (dict "name" .copy.from "level" 0) $use) -}}
{{- end -}}
{{- $level := ternary 2 1 (eq (default "retain" .copy.source_gone) "delete") -}}
{{- include "rollcall.secret-syncer.stands" (merge (dict "name" .name "to" .copy.to "selects" (hasKey .copy "namespace_selector") "level" $level) $use) -}}
{{- end -}}

{{/* Notes that an object is written in each namespace in which it stands. Give: uses, resource, name, namespace, to, level. */}}
{{- define "rollcall.secret-syncer.stands" -}}
{{- $use := pick . "uses" "resource" "namespace" "level" -}}
{{- $name := last (splitList "/" .name) -}}
{{- range .to -}}
{{- include "rollcall.secret-syncer.use" (merge (dict "name" (printf "%s/%s" . $name)) $use) -}}
{{- end -}}
{{- if not (or .to .selects) -}}
{{- include "rollcall.secret-syncer.use" (merge (dict "name" .name) $use) -}}
{{- end -}}
{{- end -}}

{{/* Notes everything that one fragment asks for. Give: uses, fragment. */}}
{{- define "rollcall.secret-syncer.fragment" -}}
{{- $uses := .uses -}}
{{- $namespace := .fragment.fragment.namespace -}}
{{- $record := printf "rollcall-generated-%s" .fragment.environment.uid -}}
{{- $secret := dict "uses" $uses "resource" "secrets" "namespace" $namespace -}}
{{- $configmap := dict "uses" $uses "resource" "configmaps" "namespace" $namespace -}}
{{- range $name, $spec := .fragment.secrets -}}
  {{- if $spec.external -}}
    {{- include "rollcall.secret-syncer.use" (merge (dict "name" $name "level" 0) $secret) -}}
  {{- else if $spec.copy -}}
    {{- include "rollcall.secret-syncer.copy" (merge (dict "name" $name "copy" $spec.copy) $secret) -}}
  {{- else if $spec.template -}}
    {{- include "rollcall.secret-syncer.stands" (merge (dict "name" $name "to" $spec.template.to "level" 1) $secret) -}}
    {{- range $_, $value := $spec.template.values -}}
      {{- if $value.secret -}}
        {{- include "rollcall.secret-syncer.use" (merge (dict "name" $value.secret "level" 0) $secret) -}}
      {{- else -}}
        {{- include "rollcall.secret-syncer.use" (merge (dict "name" $value.configmap "level" 0) $configmap) -}}
      {{- end -}}
    {{- end -}}
  {{- else if $spec.generate -}}
    {{- include "rollcall.secret-syncer.use" (merge (dict "name" $name "level" 1) $secret) -}}
    {{- $where := ternary (printf "%s/%s" (first (splitList "/" $name)) $record) $record (contains "/" $name) -}}
    {{- include "rollcall.secret-syncer.use" (merge (dict "name" $where "level" 1) $configmap) -}}
    {{- range $_, $generator := $spec.generate -}}
      {{- if and (kindIs "map" $generator.ca) $generator.ca.secret -}}
        {{- include "rollcall.secret-syncer.use" (merge (dict "name" $generator.ca.secret "level" 0) $secret) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $name, $spec := .fragment.configmaps -}}
  {{- if $spec.external -}}
    {{- include "rollcall.secret-syncer.use" (merge (dict "name" $name "level" 0) $configmap) -}}
  {{- else if $spec.copy -}}
    {{- include "rollcall.secret-syncer.copy" (merge (dict "name" $name "copy" $spec.copy) $configmap) -}}
  {{- else -}}
    {{- include "rollcall.secret-syncer.use" (merge (dict "name" $name "level" 1) $configmap) -}}
    {{- range $_, $values := $spec.bundle -}}
      {{- range $values -}}
        {{- include "rollcall.secret-syncer.use" (merge (dict "name" .secret "level" 0) $secret) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $logins := list -}}
{{- range $_, $vault := .fragment.vault -}}
  {{- $logins = concat $logins (list (dig "tls" "ca" nil $vault) (dig "login" "approle" "secret_id" nil $vault) (dig "login" "token" nil $vault)) -}}
{{- end -}}
{{- range $_, $keycloak := .fragment.keycloak -}}
  {{- $logins = concat $logins (list (dig "tls" "ca" nil $keycloak) (dig "login" "secret" nil $keycloak)) -}}
{{- end -}}
{{- range $_, $client := .fragment.clients -}}
  {{- $logins = append $logins $client.secret -}}
{{- end -}}
{{- range compact $logins -}}
  {{- include "rollcall.secret-syncer.use" (merge (dict "name" .secret "level" 0) $secret) -}}
{{- end -}}
{{- end -}}

{{- define "rollcall.secret-syncer.roles" -}}
{{- if and .Values.roles.create .Values.fragments -}}
{{- $root := . -}}
{{- $uses := dict -}}
{{- $environment := dict -}}
{{- range $_, $fragment := .Values.fragments -}}
  {{- $environment = $fragment.environment -}}
  {{- include "rollcall.secret-syncer.fragment" (dict "uses" $uses "fragment" $fragment) -}}
{{- end -}}
{{- $roles := dict -}}
{{- range $id, $level := $uses -}}
  {{- $parts := splitList "/" $id -}}
  {{- $role := printf "%s/%s" (first $parts) (ternary "read" "write" (eq (int $level) 0)) -}}
  {{- $rules := get $roles $role | default dict -}}
  {{- $rule := printf "%d/%s" (int $level) (index $parts 1) -}}
  {{- $_ := set $rules $rule (append (get $rules $rule | default list) (last $parts)) -}}
  {{- $_ := set $roles $role $rules -}}
{{- end -}}
{{- $verbs := list (list "get" "watch") (list "get" "watch" "create" "patch") (list "get" "watch" "create" "patch" "delete") -}}
{{- $suffix := $environment.uid | toString | replace "-" "" | trunc -8 -}}
{{- range $role, $rules := $roles -}}
{{- $namespace := first (splitList "/" $role) -}}
{{- $name := printf "rollcall-secret-syncer-%s-%s-%s" $environment.name $suffix (last (splitList "/" $role)) -}}
{{- if or (not $root.Values.roles.namespaces) (has $namespace $root.Values.roles.namespaces) }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- include "rollcall.labels" $root | nindent 4 }}
rules:
  {{- range $rule, $names := $rules }}
  - apiGroups: [""]
    resources: [{{ last (splitList "/" $rule) }}]
    resourceNames: {{ toJson $names }}
    verbs: {{ index $verbs (first (splitList "/" $rule) | int) | toJson }}
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels:
    {{- include "rollcall.labels" $root | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $name }}}
subjects:
  - {kind: ServiceAccount, name: {{ include "rollcall.serviceAccountName" $root }}, namespace: {{ $root.Release.Namespace }}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
