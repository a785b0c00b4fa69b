{{/*
One long-lived service of Rollcall: its account, its documents and its Deployment.
Give a dict: `root`, the chart's own context, and `args`, what the program is asked to do.
*/}}
{{- define "rollcall.service" -}}
{{- $root := .root -}}
{{- with $root -}}
{{- if not .Values.fragments -}}
{{- fail "fragments: give at least one document, by a name of its own; what to write in it says the README" -}}
{{- end -}}
{{- $uids := list -}}
{{- range .Values.fragments -}}
{{- $uids = append $uids (lower .environment.uid) -}}
{{- end -}}
{{- if gt (len (uniq $uids)) 1 -}}
{{- fail "fragments: they are of several environments; install one release for each" -}}
{{- end -}}
{{- if .Values.serviceAccount.create }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "rollcall.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "rollcall.labels" . | nindent 4 }}
  {{- with .Values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
---
{{- end }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "rollcall.fullname" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "rollcall.labels" . | nindent 4 }}
data:
  {{- range $name, $fragment := .Values.fragments }}
  {{ $name }}.json: {{ toJson $fragment | quote }}
  {{- end }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "rollcall.fullname" . }}
  namespace: {{ .Release.Namespace }}
  labels:
    {{- include "rollcall.labels" . | nindent 4 }}
spec:
  replicas: {{ .Values.replicas }}
  selector:
    matchLabels:
      {{- include "rollcall.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "rollcall.labels" . | nindent 8 }}
        {{- with .Values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        # Documents are read once: other documents, another pod.
        rollcall/documents: {{ toJson .Values.fragments | sha256sum }}
        {{- with .Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "rollcall.serviceAccountName" . }}
      automountServiceAccountToken: true
      {{- with .Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: {{ .Chart.Name }}
          image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
          imagePullPolicy: {{ .Values.image.pullPolicy }}
          args:
            {{- toYaml $.args | nindent 12 }}
          env:
            - {name: ROLLCALL_DOCUMENTS, value: /etc/rollcall/documents}
            - {name: ROLLCALL_LISTEN, value: "0.0.0.0:7070"}
            - name: ROLLCALL_INSTANCE
              valueFrom: {fieldRef: {fieldPath: metadata.name}}
            {{- range $name, $value := .Values.settings }}
            - {name: {{ $name }}, value: {{ $value | toString | quote }}}
            {{- end }}
          ports:
            - {name: grpc, containerPort: 7070}
            - {name: health, containerPort: 7071}
            - {name: metrics, containerPort: 7072}
          livenessProbe:
            grpc: {port: 7071, service: liveness}
          readinessProbe:
            grpc: {port: 7071, service: readiness}
          resources:
            {{- toYaml .Values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts:
            - {name: documents, mountPath: /etc/rollcall/documents, readOnly: true}
      {{- with .Values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumes:
        - name: documents
          configMap: {name: {{ include "rollcall.fullname" . }}}
{{- end -}}
{{- end -}}
