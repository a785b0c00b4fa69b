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
{{- if .copy.namespace_selector -}}
{{- fail (printf "%s: namespace_selector is for the central secret-syncer of chart `cluster`; name the namespaces under `to`" .name) -}}
{{- end -}}
{{- $use := omit . "copy" "name" -}}
{{- if kindIs "string" .copy.from -}}
{{- include "rollcall.secret-syncer.use" (merge (dict "name" .copy.from "level" 0) $use) -}}
{{- end -}}
{{- $level := ternary 2 1 (eq (default "retain" .copy.source_gone) "delete") -}}
{{- include "rollcall.secret-syncer.stands" (merge (dict "name" .name "to" .copy.to "level" $level) $use) -}}
{{- end -}}

{{/* Notes that an object is written in each namespace in which it stands. Give: uses, resource, name, namespace, to, level. */}}
{{- define "rollcall.secret-syncer.stands" -}}
{{- $use := pick . "uses" "resource" "namespace" "level" -}}
{{- $name := last (splitList "/" .name) -}}
{{- range .to -}}
{{- include "rollcall.secret-syncer.use" (merge (dict "name" (printf "%s/%s" . $name)) $use) -}}
{{- end -}}
{{- if not .to -}}
{{- include "rollcall.secret-syncer.use" (merge (dict "name" .name) $use) -}}
{{- end -}}
{{- end -}}

{{/* Notes everything that one fragment asks for. Give: uses, fragment. */}}
{{- define "rollcall.secret-syncer.fragment" -}}
{{- $uses := .uses -}}
{{- $namespace := .fragment.fragment.namespace -}}
{{- $record := printf "rollcall-generated-%s" (lower .fragment.environment.uid) -}}
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

{{/* Notes the restart set of one object, and where it is noted what pods have. Give: workloads, records, fragment, name, spec. A workload is restarted if any object asks for it. */}}
{{- define "rollcall.secret-syncer.restart" -}}
{{- $own := .fragment.fragment.namespace -}}
{{- if contains "/" .name -}}{{- $own = first (splitList "/" .name) -}}{{- end -}}
{{- $to := dig "copy" "to" list .spec -}}
{{- if .spec.template -}}{{- $to = .spec.template.to | default list -}}{{- end -}}
{{- if not $to -}}{{- $to = list $own -}}{{- end -}}
{{- $reports := eq (dig "policy" "mode" "enforce" .fragment) "report" -}}
{{- $rolls := and (not $reports) (ne (.spec.restart.mode | default "roll") "announce") -}}
{{- $workloads := .workloads -}}
{{- $records := .records -}}
{{- range .spec.restart.workloads -}}
  {{- $parts := splitList "/" . -}}
  {{- range $to -}}
    {{- if or (eq (len $parts) 2) (eq . (index $parts 1)) -}}
      {{- $of := get $workloads . | default dict -}}
      {{- $id := printf "%ss/%s" (first $parts) (last $parts) -}}
      {{- $_ := set $of $id (or $rolls (get $of $id | default false)) -}}
      {{- $_ := set $workloads . $of -}}
      {{- if not $reports -}}{{- $_ := set $records . true -}}{{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* A Role and its binding. Give: root, namespace, name, rules. */}}
{{- define "rollcall.secret-syncer.role" -}}
{{- $root := .root }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "rollcall.labels" $root | nindent 4 }}
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
    {{- include "rollcall.labels" $root | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .name }}}
subjects:
  - {kind: ServiceAccount, name: {{ include "rollcall.serviceAccountName" $root }}, namespace: {{ $root.Release.Namespace }}}
{{- end -}}

{{/* Notes the workloads from which the modules of one fragment take their keys. Give: workloads, fragment. */}}
{{- define "rollcall.secret-syncer.referenced" -}}
{{- $own := .fragment.fragment.namespace -}}
{{- $workloads := .workloads -}}
{{- range $_, $module := .fragment.modules -}}
  {{- if and (kindIs "string" $module.keys) $module.workloads -}}
    {{- range $module.workloads -}}
      {{- $parts := splitList "/" . -}}
      {{- $namespace := ternary (index $parts 1) $own (eq (len $parts) 3) -}}
      {{- $of := get $workloads $namespace | default dict -}}
      {{- $id := printf "%ss/%s" (first $parts) (last $parts) -}}
      {{- $_ := set $of $id (get $of $id | default false) -}}
      {{- $_ := set $workloads $namespace $of -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{- define "rollcall.secret-syncer.roles" -}}
{{- if and .Values.roles.create .Values.fragments -}}
{{- $root := . -}}
{{- $uses := dict -}}
{{- $workloads := dict -}}
{{- $records := dict -}}
{{- $environment := dict -}}
{{- range $_, $fragment := .Values.fragments -}}
  {{- $environment = $fragment.environment -}}
  {{- include "rollcall.secret-syncer.fragment" (dict "uses" $uses "fragment" $fragment) -}}
  {{- include "rollcall.secret-syncer.referenced" (dict "workloads" $workloads "fragment" $fragment) -}}
  {{- range list $fragment.secrets $fragment.configmaps -}}
    {{- range $name, $spec := . -}}
      {{- if $spec.restart -}}
        {{- include "rollcall.secret-syncer.restart" (dict "workloads" $workloads "records" $records "fragment" $fragment "name" $name "spec" $spec) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $prefix := printf "rollcall-secret-syncer-%s-%s" $environment.name ($environment.uid | lower | replace "-" "" | trunc -8) -}}
{{- $roles := dict -}}
{{- $verbs := list (list "get" "watch") (list "get" "watch" "create" "patch") (list "get" "watch" "create" "patch" "delete") -}}
{{- $named := dict -}}
{{- range $id, $level := $uses -}}
  {{- $parts := splitList "/" $id -}}
  {{- $role := printf "%s/%s-%s" (first $parts) $prefix (ternary "read" "write" (eq (int $level) 0)) -}}
  {{- $rule := printf "%s//%s/%d" $role (index $parts 1) (int $level) -}}
  {{- $_ := set $named $rule (append (get $named $rule | default list) (last $parts)) -}}
{{- end -}}
{{- range $rule, $names := $named -}}
  {{- $parts := splitList "/" $rule -}}
  {{- $role := printf "%s/%s" (index $parts 0) (index $parts 1) -}}
  {{- $new := dict "apiGroups" (list "") "resources" (list (index $parts 3)) "resourceNames" $names "verbs" (index $verbs (int (index $parts 4))) -}}
  {{- $_ := set $roles $role (append (get $roles $role | default list) $new) -}}
{{- end -}}
{{- range $namespace, $restarted := $workloads -}}
  {{- $rules := list -}}
  {{- if hasKey $records $namespace -}}
    {{- $record := printf "rollcall-restarts-%s" (lower $environment.uid) -}}
    {{- $rules = list (dict "apiGroups" (list "") "resources" (list "secrets") "resourceNames" (list $record) "verbs" (list "get" "create" "patch")) -}}
  {{- end -}}
  {{- range $resource := list "deployments" "statefulsets" "daemonsets" -}}
    {{- range $rolls := list true false -}}
      {{- $names := list -}}
      {{- range $id, $is := $restarted -}}
        {{- if and (eq $is $rolls) (hasPrefix (printf "%s/" $resource) $id) -}}
          {{- $names = append $names (last (splitList "/" $id)) -}}
        {{- end -}}
      {{- end -}}
      {{- if $names -}}
        {{- $rules = append $rules (dict "apiGroups" (list "apps") "resources" (list $resource) "resourceNames" $names "verbs" (ternary (list "get" "patch") (list "get") $rolls)) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
  {{- $_ := set $roles (printf "%s/%s-workloads" $namespace $prefix) $rules -}}
{{- end -}}
{{- range $role, $rules := $roles -}}
{{- $namespace := first (splitList "/" $role) -}}
{{- if or (not $root.Values.roles.namespaces) (has $namespace $root.Values.roles.namespaces) -}}
{{- include "rollcall.secret-syncer.role" (dict "root" $root "namespace" $namespace "name" (last (splitList "/" $role)) "rules" $rules) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
