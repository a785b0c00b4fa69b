{{- define "postgres-init.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "postgres-init.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "postgres-init.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}
