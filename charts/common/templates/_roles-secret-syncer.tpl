{{/*
What secret-syncer does with which objects. Each use of an object is noted in a dict by namespace, resource and name, with the
most that anything asks for: 0 read, 1 write, 2 write and delete.
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

{{/* Fills `rules` with the rules of each Role. Give: fragments, environment, rules (a dict: namespace, then part, then rules). */}}
{{- define "rollcall.secret-syncer.rules" -}}
{{- $environment := .environment -}}
{{- $rules := .rules -}}
{{- $uses := dict -}}
{{- $workloads := dict -}}
{{- $records := dict -}}
{{- range $_, $fragment := .fragments -}}
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
{{- $verbs := list (list "get" "watch") (list "get" "watch" "create" "patch") (list "get" "watch" "create" "patch" "delete") -}}
{{- $named := dict -}}
{{- range $id, $level := $uses -}}
  {{- $parts := splitList "/" $id -}}
  {{- $rule := printf "%s/%s/%s/%d" (first $parts) (ternary "read" "write" (eq (int $level) 0)) (index $parts 1) (int $level) -}}
  {{- $_ := set $named $rule (append (get $named $rule | default list) (last $parts)) -}}
{{- end -}}
{{- range $rule, $names := $named -}}
  {{- $parts := splitList "/" $rule -}}
  {{- $new := dict "apiGroups" (list "") "resources" (list (index $parts 2)) "resourceNames" $names "verbs" (index $verbs (int (index $parts 3))) -}}
  {{- include "rollcall.roles.add" (dict "rules" $rules "namespace" (index $parts 0) "part" (index $parts 1) "rule" $new) -}}
{{- end -}}
{{- range $namespace, $restarted := $workloads -}}
  {{- if hasKey $records $namespace -}}
    {{- $record := printf "rollcall-restarts-%s" (lower $environment.uid) -}}
    {{- $new := dict "apiGroups" (list "") "resources" (list "secrets") "resourceNames" (list $record) "verbs" (list "get" "create" "patch") -}}
    {{- include "rollcall.roles.add" (dict "rules" $rules "namespace" $namespace "part" "workloads" "rule" $new) -}}
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
        {{- $new := dict "apiGroups" (list "apps") "resources" (list $resource) "resourceNames" $names "verbs" (ternary (list "get" "patch") (list "get") $rolls) -}}
        {{- include "rollcall.roles.add" (dict "rules" $rules "namespace" $namespace "part" "workloads" "rule" $new) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}
