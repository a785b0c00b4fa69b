{{/* The parts of an environment. */}}

{{/* All fragments, as JSON: those under `fragments`, and one with the pull secrets of `namespaces`. */}}
{{- define "rollcall.environment.fragments" -}}
{{- $fragments := deepCopy .Values.fragments -}}
{{- $to := dict -}}
{{- range $namespace, $has := .Values.namespaces -}}
  {{- range $has.pullSecrets -}}
    {{- $_ := set $to . (append (get $to . | default list) $namespace) -}}
  {{- end -}}
{{- end -}}
{{- if $to -}}
{{- include "rollcall.fragments.check" (dict "fragments" .Values.fragments) -}}
{{- if not .Values.secretSyncer.enabled -}}
{{- fail "namespaces: pullSecrets are copied by secret-syncer; set secretSyncer.enabled" -}}
{{- end -}}
{{- if hasKey $fragments "pull-secrets" -}}
{{- fail "fragments.pull-secrets: this name is for the pull secrets of `namespaces`; take another" -}}
{{- end -}}
{{- $declared := dict -}}
{{- $first := get $fragments (keys $fragments | sortAlpha | first) -}}
{{- range $_, $fragment := $fragments -}}
  {{- range $name, $_ := $fragment.secrets -}}
    {{- $_ := set $declared (ternary $name (printf "%s/%s" $fragment.fragment.namespace $name) (contains "/" $name)) true -}}
  {{- end -}}
{{- end -}}
{{- $secrets := dict -}}
{{- range $from, $namespaces := $to -}}
  {{- $copies := without $namespaces (first (splitList "/" $from)) -}}
  {{- if $copies -}}
    {{- $copy := dict "from" $from "to" $copies -}}
    {{- if hasKey $secrets (last (splitList "/" $from)) -}}
      {{- fail (printf "namespaces: two pullSecrets are called %s; in a namespace there is one of a name" (last (splitList "/" $from))) -}}
    {{- end -}}
    {{- $_ := set $secrets (last (splitList "/" $from)) (dict "copy" $copy) -}}
    {{- if not (hasKey $declared $from) -}}{{- $_ := set $secrets $from (dict "external" true) -}}{{- end -}}
  {{- end -}}
{{- end -}}
{{- $fragment := pick $first "rollcall" "environment" "naming" -}}
{{- $_ := set $fragment "fragment" (dict "name" "pull-secrets" "namespace" .Release.Namespace) -}}
{{- $_ := set $fragment "secrets" $secrets -}}
{{- if $secrets -}}{{- $_ := set $fragments "pull-secrets" $fragment -}}{{- end -}}
{{- end -}}
{{- toJson $fragments -}}
{{- end -}}

{{/* In place of all parts, a Job that takes the environment down, or says what would go. Give: root, fragments. */}}
{{- define "rollcall.environment.down" -}}
{{- $down := .root.Values.down -}}
{{- $name := "" -}}
{{- range .fragments -}}{{- $name = .environment.name -}}{{- end -}}
{{- $more := list -}}
{{- if eq $down.run "delete" -}}
{{- if ne $down.environment $name -}}
{{- fail (printf "down.environment: deleting is for good; say which environment is meant: %s" $name) -}}
{{- end -}}
{{- $more = list "--yes" "--environment" $name -}}
{{- end -}}
{{- range $down.orphans -}}{{- $more = concat $more (list "--orphan" .) -}}{{- end -}}
{{- include "rollcall.environment.part" (merge (dict "key" "down" "kind" "down" "more" $more "always" true "run" "apply") .) -}}
{{- end -}}

{{/* One part, if it is enabled. Give: root, fragments, key (its values), kind, and for what is no service always (true), run and more (see rollcall.part). */}}
{{- define "rollcall.environment.part" -}}
{{- $own := get .root.Values .key -}}
{{- if or .always $own.enabled -}}
{{- $shared := pick .root.Values "image" "imagePullSecrets" "settings" "job" "podLabels" "podAnnotations" "podSecurityContext" "securityContext" "networkPolicy" "serviceAnnotations" "nodeSelector" "affinity" "tolerations" "topologySpreadConstraints" "priorityClassName" "extraEnv" "extraVolumes" "extraVolumeMounts" "extraInitContainers" -}}
{{- $values := mustMergeOverwrite (deepCopy $shared) (deepCopy $own) -}}
{{- with .run }}{{- $_ := set $values "run" . -}}{{- end -}}
{{- $settings := dict -}}
{{- with .root.Values.bus.brokers }}{{- $_ := set $settings "ROLLCALL_BROKERS" (join "," .) -}}{{- end -}}
{{- if and .root.Values.hub.enabled (has .kind (list "secret-syncer" "postgres-init" "topic-provisioner")) -}}
{{- $hub := include "rollcall.name" (dict "root" .root "suffix" "hub") -}}
{{- $_ := set $settings "ROLLCALL_HUB" (printf "http://%s.%s:7070" $hub .root.Release.Namespace) -}}
{{- end -}}
{{- $part := dict "root" .root "kind" .kind "suffix" .kind "values" $values "fragments" .fragments "settings" $settings "more" .more -}}
{{- include "rollcall.part" $part -}}
{{- end -}}
{{- end -}}
