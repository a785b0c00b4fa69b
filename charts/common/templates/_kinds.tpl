{{/*
What Rollcall's processes are, for charts: the program, how it is asked to serve and to end, who is let in.

Each part of a chart is handed around as a dict: `root`, the chart's own context; `kind`, one of the names below; `values`,
what the chart's user says of it; `suffix`, what its objects' names end in; `fragments`, its documents.
*/}}
{{- define "rollcall.kinds" -}}
hub: {program: wait-for-dependency, serve: [serve], mounts: true, clients: true, strategy: Recreate}
telemetry-exporter: {program: telemetry-exporter, serve: [serve], clients: true}
secret-syncer: {program: secret-syncer, serve: [serve], apply: [apply]}
postgres-init: {program: postgres-init, serve: [serve], apply: [apply]}
topic-provisioner: {program: topic-provisioner, serve: [serve], apply: [apply]}
down: {program: rollcall, apply: [down]}
central: {program: secret-syncer, serve: [--central, serve]}
{{- end -}}

{{/* What one kind is, as YAML. Give: a part. */}}
{{- define "rollcall.kind" -}}
{{- get (include "rollcall.kinds" . | fromYaml) .kind | toYaml -}}
{{- end -}}

{{/* The name of a part's objects. Give: a part. */}}
{{- define "rollcall.part.name" -}}
{{- include "rollcall.name" (pick . "root" "suffix") -}}
{{- end -}}

{{/* The service account of a part. Give: a part. */}}
{{- define "rollcall.part.account" -}}
{{- $account := .values.serviceAccount | default dict -}}
{{- if ne (toString $account.create) "false" -}}
{{- default (include "rollcall.part.name" .) $account.name -}}
{{- else -}}
{{- required "serviceAccount.name: give the account to run as, or let the chart create one" $account.name -}}
{{- end -}}
{{- end -}}

{{/* The version of everything, for charts that are not Rollcall's own; a test keeps it that of every chart and program. */}}
{{- define "rollcall.version" -}}0.1.0{{- end -}}

{{/* The image of a program. Give: image (the chart's value), program. */}}
{{- define "rollcall.image" -}}
{{- $image := .image | default dict -}}
{{- $name := $image.repository | default (printf "rollcall/%s" .program) -}}
{{- with $image.registry -}}{{- $name = printf "%s/%s" (trimSuffix "/" .) $name -}}{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name ($image.tag | default (include "rollcall.version" .)) -}}
{{- end -}}
{{- end -}}
