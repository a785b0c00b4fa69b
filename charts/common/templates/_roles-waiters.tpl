{{/* What the waiter of a module reads for the module's start needs, where it waits by documents. */}}

{{/* How a document reaches a server or cluster, as JSON: `spec` and `namespace`; its own view, or else that of whoever declares it. Give: fragments, viewer, kind (`postgres` or `kafka`), name. */}}
{{- define "rollcall.reads.view" -}}
{{- $used := dig "uses" .kind .name nil .viewer -}}
{{- $view := dict -}}
{{- if or (kindIs "map" $used) (kindIs "map" (dig .kind .name nil .viewer)) -}}
{{- $view = dict "spec" ($used | default (dig .kind .name dict .viewer)) "namespace" .viewer.fragment.namespace -}}
{{- else if .fallback -}}
{{- $view = include "rollcall.reads.view" (merge (dict "viewer" .fallback "fallback" nil) (omit . "viewer" "fallback")) | fromJson -}}
{{- else -}}
{{- $kind := .kind -}}
{{- $name := .name -}}
{{- range $_, $fragment := .fragments -}}
{{- with dig $kind $name nil $fragment -}}
{{- $view = dict "spec" . "namespace" $fragment.fragment.namespace -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $view -}}
{{- end -}}

{{/* Notes the authority of a view. Give: reads, view. */}}
{{- define "rollcall.reads.authority" -}}
{{- with dig "spec" "tls" "ca" nil .view -}}
{{- include "rollcall.reads.note" (dict "reads" $.reads "fragment" (dict "fragment" (dict "namespace" $.view.namespace)) "reference" .) -}}
{{- end -}}
{{- end -}}

{{/* Give: fragments, reads, module. */}}
{{- define "rollcall.reads.waiter" -}}
{{- $module := .module -}}
{{- $reads := .reads -}}
{{- $fragments := .fragments -}}
{{- $own := dict -}}
{{- range $_, $fragment := $fragments -}}
  {{- if hasKey ($fragment.modules | default dict) $module -}}{{- $own = $fragment -}}{{- end -}}
{{- end -}}
{{- if not $own -}}{{- fail (printf "waiters.%s: no document declares module/%s" $module $module) -}}{{- end -}}
{{- $spec := get $own.modules $module | default dict -}}
{{- $namespace := $own.fragment.namespace -}}
{{- /* A need that is written outweighs one that follows from another. */ -}}
{{- $needs := dict -}}
{{- range $spec.needs -}}
  {{- $need := . -}}
  {{- if kindIs "string" . -}}{{- $need = dict "component" . -}}{{- end -}}
  {{- $parts := splitList "/" $need.component -}}
  {{- $component := $need.component -}}
  {{- if and (has (first $parts) (list "secret" "configmap")) (eq (len $parts) 2) -}}
    {{- $component = printf "%s/%s/%s" (first $parts) $namespace (last $parts) -}}
  {{- end -}}
  {{- if eq (first $parts) "migration" -}}
    {{- /* It is looked at in its database. */ -}}
    {{- range $_, $each := $fragments -}}
      {{- with get ($each.migrations | default dict) (last $parts) -}}{{- $component = printf "database/%s" .database -}}{{- end -}}
    {{- end -}}
  {{- end -}}
  {{- if not (hasKey $needs $component) -}}{{- $_ := set $needs $component ($need.when | default "start") -}}{{- end -}}
{{- end -}}
{{- if not (kindIs "string" $spec.keys) -}}
{{- range $spec.keys -}}
  {{- $kind := ternary "secret" "configmap" (hasKey . "secret") -}}
  {{- $name := get . $kind -}}
  {{- $component := printf "%s/%s" $kind (ternary $name (printf "%s/%s" $namespace $name) (contains "/" $name)) -}}
  {{- if not (hasKey $needs $component) -}}{{- $_ := set $needs $component "start" -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- range $component, $when := $needs -}}
{{- if eq $when "start" -}}
  {{- $parts := splitList "/" $component -}}
  {{- $kind := first $parts -}}
  {{- $name := rest $parts | join "/" -}}
  {{- if has $kind (list "secret" "configmap") -}}
    {{- $_ := set $reads (printf "%ss/%s" $kind $name) true -}}
  {{- else if eq $kind "kafka" -}}
    {{- $view := include "rollcall.reads.view" (dict "fragments" $fragments "viewer" $own "kind" "kafka" "name" $name) | fromJson -}}
    {{- include "rollcall.reads.authority" (dict "reads" $reads "view" $view) -}}
  {{- else if eq $kind "client" -}}
    {{- fail (printf "waiters.%s: it needs %s, whose secret lies where documents say; leave it out here, and apply what `rollcall rbac DOCUMENTS --module %s --account NAMESPACE/ACCOUNT` prints" $module $component $module) -}}
  {{- else if has $kind (list "database" "role" "topic") -}}
    {{- range $_, $fragment := $fragments -}}
      {{- with dig (printf "%ss" $kind) $name nil $fragment -}}
        {{- $server := ternary .kafka .server (eq $kind "topic") -}}
        {{- $give := dict "fragments" $fragments "viewer" $own "fallback" $fragment "kind" (ternary "kafka" "postgres" (eq $kind "topic")) "name" $server -}}
        {{- include "rollcall.reads.authority" (dict "reads" $reads "view" (include "rollcall.reads.view" $give | fromJson)) -}}
        {{- if eq $kind "database" -}}
          {{- include "rollcall.reads.note" (dict "reads" $reads "fragment" $fragment "reference" .roles.app.password) -}}
        {{- else if eq $kind "role" -}}
          {{- include "rollcall.reads.note" (dict "reads" $reads "fragment" $fragment "reference" .password) -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}
{{- include "rollcall.reads.refuse" . -}}
{{- end -}}

{{/* Refuses what no module may read: who looks after servers or observes them. Give: fragments, reads, module. */}}
{{- define "rollcall.reads.refuse" -}}
{{- $held := dict -}}
{{- range $_, $fragment := .fragments -}}
  {{- $references := list -}}
  {{- range $_, $server := $fragment.postgres -}}
    {{- $references = concat $references (list (dig "admin" "password" nil ($server | default dict)) (dig "observer" "password" nil $server)) -}}
  {{- end -}}
  {{- range $_, $keycloak := $fragment.keycloak -}}{{- $references = append $references (dig "login" "secret" nil $keycloak) -}}{{- end -}}
  {{- range $_, $vault := $fragment.vault -}}
    {{- $references = concat $references (list (dig "login" "approle" "secret_id" nil $vault) (dig "login" "token" nil $vault)) -}}
  {{- end -}}
  {{- range compact $references -}}
    {{- include "rollcall.reads.note" (dict "reads" $held "fragment" $fragment "reference" .) -}}
  {{- end -}}
{{- end -}}
{{- range $id, $_ := .reads -}}
  {{- if hasKey $held $id -}}
    {{- fail (printf "waiters.%s: its waiter would read %s, with which servers are looked after or observed; a Role allows whole Secrets, so put what the module needs into a Secret of its own" $.module $id) -}}
  {{- end -}}
{{- end -}}
{{- end -}}
