{{/* Names, labels, and the checks that a schema cannot express. */}}

{{- define "seriatim.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "seriatim.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "seriatim.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "seriatim.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "seriatim.selector" -}}
app.kubernetes.io/name: {{ include "seriatim.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: worker
{{- end -}}

{{- define "seriatim.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "seriatim.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "seriatim.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "seriatim.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "seriatim.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "seriatim.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "seriatim.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
capabilities:
  drop: ["ALL"]
{{- end -}}

{{/* Secrets as files: they show neither in the pod's description nor in the environment of its processes. */}}
{{- define "seriatim.databaseSecret" -}}
- secret:
    name: {{ .Values.secrets.database.existingSecret | quote }}
    items:
      - key: {{ .Values.secrets.database.key | quote }}
        path: database-url
{{- end -}}

{{/* The configuration file: what the values say, and what only the chart can know. */}}
{{- define "seriatim.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "http" (dict "listen" (printf "0.0.0.0:%d" (int .Values.http.port))) -}}
{{- $_ := set $config "database" (merge (dict "url_file" "/run/secrets/seriatim/database-url") (default dict $config.database)) -}}
{{- if .Values.secrets.kafka.existingSecret -}}
{{- $file := dict "sasl.password_file" "/run/secrets/seriatim/kafka-password" -}}
{{- $_ := set $config.kafka "properties" (merge $file (default dict $config.kafka.properties)) -}}
{{- end -}}
{{- range $section, $keys := $config -}}
{{- if not $keys -}}{{- $_ := unset $config $section -}}{{- end -}}
{{- end -}}
{{- if not $config.kafka.properties -}}{{- $_ := unset $config.kafka "properties" -}}{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* What a schema cannot compare. */}}
{{- define "seriatim.check" -}}
{{- $deadline := trimSuffix "s" .Values.config.shutdown.deadline | int -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (add $deadline 10 | int) -}}
{{- fail (printf "terminationGracePeriodSeconds (%d) must be at least config.shutdown.deadline + 10 (%d): the kubelet would kill the worker while it drains" (int .Values.terminationGracePeriodSeconds) (add $deadline 10 | int)) -}}
{{- end -}}
{{- if gt (int .Values.replicas) (int .Values.partitions) -}}
{{- fail (printf "replicas (%d) must not be more than partitions (%d): the rest would have nothing to read" (int .Values.replicas) (int .Values.partitions)) -}}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
{{- if gt (int .Values.autoscaling.maxReplicas) (int .Values.partitions) -}}
{{- fail (printf "autoscaling.maxReplicas (%d) must not be more than partitions (%d): the rest would have nothing to read" (int .Values.autoscaling.maxReplicas) (int .Values.partitions)) -}}
{{- end -}}
{{- if gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas (%d) must not be more than autoscaling.maxReplicas (%d)" (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
