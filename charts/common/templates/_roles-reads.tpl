{{/* What those who only read read: the provisioners of servers, the hub, and waiters. */}}

{{/* Fills `rules` with one rule for each namespace and resource. Give: kind, fragments, rules, module (of a waiter). */}}
{{- define "rollcall.reads.rules" -}}
{{- $reads := dict -}}
{{- include (printf "rollcall.reads.%s" .kind) (dict "fragments" .fragments "reads" $reads "module" .module) -}}
{{- $rules := .rules -}}
{{- $named := dict -}}
{{- range $id, $_ := $reads -}}
  {{- $parts := splitList "/" $id -}}
  {{- $_ := set $named (dir $id) (append (get $named (dir $id) | default list) (last $parts)) -}}
{{- end -}}
{{- range $place, $names := $named -}}
  {{- $parts := splitList "/" $place -}}
  {{- $rule := dict "apiGroups" (list "") "resources" (list (first $parts)) "resourceNames" $names "verbs" (list "get") -}}
  {{- include "rollcall.roles.add" (dict "rules" $rules "namespace" (last $parts) "part" "read" "rule" $rule) -}}
{{- end -}}
{{- end -}}

{{/* Where the hub tells pods why they wait: in the namespaces of modules. Give: fragments, rules. */}}
{{- define "rollcall.events.rules" -}}
{{- $namespaces := dict -}}
{{- range .fragments -}}
{{- if .modules -}}{{- $_ := set $namespaces .fragment.namespace true -}}{{- end -}}
{{- end -}}
{{- $rules := .rules -}}
{{- range $namespace, $_ := $namespaces -}}
  {{- $rule := dict "apiGroups" (list "events.k8s.io") "resources" (list "events") "verbs" (list "create") -}}
  {{- include "rollcall.roles.add" (dict "rules" $rules "namespace" $namespace "part" "events" "rule" $rule) -}}
{{- end -}}
{{- end -}}

{{/* Notes the Secret that a document refers to, if it does. Give: reads, fragment, reference (`{secret, key}`, may be empty). */}}
{{- define "rollcall.reads.note" -}}
{{- with .reference -}}
{{- $name := ternary .secret (printf "%s/%s" $.fragment.fragment.namespace .secret) (contains "/" .secret) -}}
{{- $_ := set $.reads (printf "secrets/%s" $name) true -}}
{{- end -}}
{{- end -}}

{{/* Passwords of administrators, observers and the roles of databases, and CAs, where a document names the administrator. */}}
{{- define "rollcall.reads.postgres-init" -}}
{{- $reads := .reads -}}
{{- $servers := dict -}}
{{- range $_, $fragment := .fragments -}}
  {{- range $name, $server := $fragment.postgres -}}
    {{- if $server.admin -}}
      {{- $_ := set $servers $name true -}}
      {{- range list $server.admin.password (dig "observer" "password" nil $server) (dig "tls" "ca" nil $server) -}}
        {{- include "rollcall.reads.note" (dict "reads" $reads "fragment" $fragment "reference" .) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $_, $fragment := .fragments -}}
  {{- range $_, $database := $fragment.databases -}}
    {{- if hasKey $servers $database.server -}}
      {{- $roles := $database.roles -}}
      {{- range list $roles.app.password (dig "app" "overlap" "password" nil $roles) (dig "migrator" "password" nil $roles) -}}
        {{- include "rollcall.reads.note" (dict "reads" $reads "fragment" $fragment "reference" .) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
  {{- range $_, $role := $fragment.roles -}}
    {{- if hasKey $servers $role.server -}}
      {{- include "rollcall.reads.note" (dict "reads" $reads "fragment" $fragment "reference" $role.password) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- include "rollcall.reads.migrations" . -}}
{{- end -}}

{{/* What migrations read: the login of each database that they are let into, its server's CA as their document sees it, files in ConfigMaps, and what they need. Give: fragments, reads. */}}
{{- define "rollcall.reads.migrations" -}}
{{- $reads := .reads -}}
{{- $fragments := .fragments -}}
{{- range $_, $fragment := $fragments -}}
  {{- $namespace := $fragment.fragment.namespace -}}
  {{- range $_, $migration := $fragment.migrations -}}
    {{- $mine := dict -}}
    {{- $found := true -}}
    {{- range $name := concat (list $migration.database) (dig "psql" "connects" list $migration) -}}
      {{- $here := false -}}
      {{- range $_, $other := $fragments -}}
        {{- with get ($other.databases | default dict) $name -}}
          {{- $login := .roles.migrator | default (ternary .roles.app dict (eq (.roles.app.ddl | default "none") "as-owner")) -}}
          {{- if $login -}}
            {{- $here = true -}}
            {{- include "rollcall.reads.note" (dict "reads" $mine "fragment" $other "reference" $login.password) -}}
            {{- $give := dict "fragments" $fragments "viewer" $fragment "kind" "postgres" "name" .server -}}
            {{- include "rollcall.reads.authority" (dict "reads" $mine "view" (include "rollcall.reads.view" $give | fromJson)) -}}
          {{- end -}}
        {{- end -}}
      {{- end -}}
      {{- if not $here -}}{{- $found = false -}}{{- end -}}
    {{- end -}}
    {{- range $migration.sources -}}
      {{- with .configmap -}}
        {{- $_ := set $mine (printf "configmaps/%s" (ternary . (printf "%s/%s" $namespace .) (contains "/" .))) true -}}
      {{- end -}}
    {{- end -}}
    {{- range $_, $reference := dig "psql" "secrets" dict $migration -}}
      {{- include "rollcall.reads.note" (dict "reads" $mine "fragment" $fragment "reference" $reference) -}}
    {{- end -}}
    {{- range $migration.needs -}}
      {{- $component := . -}}
      {{- if not (kindIs "string" .) -}}{{- $component = .component -}}{{- end -}}
      {{- $parts := splitList "/" $component -}}
      {{- if has (first $parts) (list "secret" "configmap") -}}
        {{- $name := rest $parts | join "/" -}}
        {{- $_ := set $mine (printf "%ss/%s" (first $parts) (ternary $name (printf "%s/%s" $namespace $name) (contains "/" $name))) true -}}
      {{- end -}}
    {{- end -}}
    {{- if $found -}}
      {{- range $id, $_ := $mine -}}{{- $_ := set $reads $id true -}}{{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* CAs of the clusters that topics are on, as their documents see them. */}}
{{- define "rollcall.reads.topic-provisioner" -}}
{{- $reads := .reads -}}
{{- range $_, $fragment := .fragments -}}
  {{- range $_, $topic := $fragment.topics -}}
    {{- $cluster := dig "kafka" $topic.kafka nil $fragment | default (dig "uses" "kafka" $topic.kafka dict $fragment) -}}
    {{- include "rollcall.reads.note" (dict "reads" $reads "fragment" $fragment "reference" (dig "tls" "ca" nil $cluster)) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* Passwords of observers whose servers have databases or ledgers, CAs of those, and CAs of clusters as it looks at them. */}}
{{- define "rollcall.reads.hub" -}}
{{- $reads := .reads -}}
{{- $used := dict -}}
{{- range $_, $fragment := .fragments -}}
  {{- range $name, $cluster := $fragment.kafka -}}
    {{- include "rollcall.reads.note" (dict "reads" $reads "fragment" $fragment "reference" (dig "tls" "ca" nil $cluster)) -}}
  {{- end -}}
  {{- range $_, $database := $fragment.databases -}}{{- $_ := set $used $database.server true -}}{{- end -}}
  {{- range $_, $role := $fragment.roles -}}{{- $_ := set $used $role.server true -}}{{- end -}}
  {{- range $_, $step := $fragment.steps -}}{{- with $step.server -}}{{- $_ := set $used . true -}}{{- end -}}{{- end -}}
  {{- range $_, $topic := $fragment.topics -}}
    {{- /* A topic is looked at as the document that declares it reaches its cluster. */ -}}
    {{- $cluster := dig "uses" "kafka" $topic.kafka dict $fragment -}}
    {{- include "rollcall.reads.note" (dict "reads" $reads "fragment" $fragment "reference" (dig "tls" "ca" nil $cluster)) -}}
  {{- end -}}
{{- end -}}
{{- range $_, $fragment := .fragments -}}
  {{- range $name, $server := $fragment.postgres -}}
    {{- if and $server.observer (hasKey $used $name) -}}
      {{- range list $server.observer.password (dig "tls" "ca" nil $server) -}}
        {{- include "rollcall.reads.note" (dict "reads" $reads "fragment" $fragment "reference" .) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}
