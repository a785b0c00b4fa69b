{{/*
The Roles that documents ask for: the same that `rollcall rbac` prints, which is a test. Rules are noted in a dict by namespace,
then by the part of a Role's name that says what is done, and become one Role and one binding each.
*/}}

{{/* The Roles of a part. Give: a part, module of a waiter, and roles (what their names begin with, for charts of which an environment has several). */}}
{{- define "rollcall.roles" -}}
{{- $roles := .root.Values.roles | default dict -}}
{{- $rules := dict -}}
{{- $environment := dict -}}
{{- range .fragments -}}{{- $environment = .environment -}}{{- end -}}
{{- $give := dict "fragments" .fragments "environment" $environment "rules" $rules -}}
{{- if eq .kind "secret-syncer" -}}
{{- include "rollcall.secret-syncer.rules" $give -}}
{{- else if eq .kind "down" -}}
{{- include "rollcall.down.rules" $give -}}
{{- else if has .kind (list "hub" "postgres-init" "topic-provisioner" "waiter") -}}
{{- include "rollcall.reads.rules" (merge (dict "kind" .kind "module" .module) $give) -}}
{{- if eq .kind "hub" -}}{{- include "rollcall.events.rules" $give -}}{{- end -}}
{{- end -}}
{{- if and .fragments (ne (toString $roles.create) "false") -}}
{{- $process := ternary (printf "waiter-%s" .module) .kind (eq .kind "waiter") -}}
{{- $prefix := .roles | default (printf "rollcall-%s-%s-%s" $process $environment.name ($environment.uid | lower | replace "-" "" | trunc -8)) -}}
{{- $part := . -}}
{{- range $namespace, $parts := $rules -}}
{{- if or (not $roles.namespaces) (has $namespace $roles.namespaces) -}}
{{- range $does, $all := $parts -}}
{{- include "rollcall.role" (merge (dict "namespace" $namespace "name" (printf "%s-%s" $prefix $does) "rules" $all) $part) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Notes a rule. Give: rules, namespace, part, rule. */}}
{{- define "rollcall.roles.add" -}}
{{- $of := get .rules .namespace | default dict -}}
{{- $_ := set $of .part (append (get $of .part | default list) .rule) -}}
{{- $_ := set .rules .namespace $of -}}
{{- end -}}

{{/* A Role and its binding. Give: a part with namespace, name, rules, and subject (whose, as namespace and name) if it is not the part's account. */}}
{{- define "rollcall.role" }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "rollcall.labels" (dict "root" .root "component" .kind) | nindent 4 }}
rules:
  {{- range .rules }}
  - {{ toJson . }}
  {{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "rollcall.labels" (dict "root" .root "component" .kind) | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .name }}}
subjects:
  {{- if .subject }}
  - {kind: ServiceAccount, name: {{ .subject.name }}, namespace: {{ .subject.namespace }}}
  {{- else }}
  - {kind: ServiceAccount, name: {{ include "rollcall.part.account" . }}, namespace: {{ .root.Release.Namespace }}}
  {{- end }}
{{- end -}}
