import { createHash } from 'node:crypto'
import { resolve } from 'node:path'
import { stringify } from 'yaml'
import { PgrecallError } from '../errors.ts'
import { fixedDelay, type Job, type Place, type ScheduleFile, type SchedulePlan } from './jobs.ts'
import { cronOf, jitterFor } from './when.ts'

/** Where the configuration is in a container. */
const CONFIG_FOLDER = '/etc/pgrecall'
const TEMPORARY_FOLDER = '/tmp'
/** A job of this name is not longer, so that its pods' names are not. */
const LONGEST_NAME = 52

/**
 * CronJobs for Kubernetes 1.27 or later (`timeZone`), and a Deployment for `wal-receive`.
 * @throws PgrecallError `config` when a folder is to be where pods have one of their own
 * @see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/
 */
export function kubernetesManifest(given: SchedulePlan): ScheduleFile {
  const plan = { ...given, writes: mountable(given.writes) }
  const documents = [
    ...plan.jobs.map((job) => cronJob(plan, job)),
    ...(plan.walReceive ? [receiver(plan, plan.walReceive)] : []),
  ]
  const text = documents.map((document) =>
    stringify(document, { lineWidth: 0, aliasDuplicateObjects: false }),
  )
  const head = '# Made by "pgrecall schedule print --kubernetes".\n'
  return { name: `pgrecall-${plan.cluster}.yaml`, text: `${head}${text.join('---\n')}` }
}

/** Kubernetes mounts one volume at a path, however much is written to it. */
function mountable(places: readonly Place[]): Place[] {
  const byPath = new Map<string, Place>()
  for (const { name, path } of places) {
    const folder = resolve(path)
    if ([CONFIG_FOLDER, TEMPORARY_FOLDER].includes(folder)) {
      throw new PgrecallError('config', `a pod has a ${folder} of its own, where "${name}" would be lost`, {
        hint: 'put it into another folder in the configuration',
      })
    }
    if (!byPath.has(folder)) byPath.set(folder, { name, path })
  }
  return [...byPath.values()]
}

function cronJob(plan: SchedulePlan, job: Job) {
  const { cluster, schedule, timeZone } = plan
  const jitter = jitterFor(job.when, schedule.jitter / 60_000)
  const delay = fixedDelay(`${schedule.kubernetes.namespace ?? 'default'}/${cluster}`, jitter)
  const main = container(plan, job.next?.name ?? job.name, job.next?.args ?? job.args)
  return {
    apiVersion: 'batch/v1',
    kind: 'CronJob',
    metadata: metadata(plan, job.name, job.text),
    spec: {
      schedule: cronOf(job.when, delay),
      timeZone: timeZone ?? 'Etc/UTC',
      concurrencyPolicy: 'Forbid',
      startingDeadlineSeconds: 6 * 60 * 60,
      successfulJobsHistoryLimit: 1,
      failedJobsHistoryLimit: 3,
      jobTemplate: {
        spec: {
          // Also for the case that another job holds the cluster's lock; with the pauses of Kubernetes, for some ten minutes.
          backoffLimit: 6,
          ...(job.limitMinutes === undefined ? {} : { activeDeadlineSeconds: job.limitMinutes * 60 }),
          template: {
            metadata: { labels: labels(plan, job.name) },
            spec: {
              // In the same pod: what has been done before is not done again.
              restartPolicy: 'OnFailure',
              ...(job.next ? { initContainers: [container(plan, job.name, job.args)] } : {}),
              containers: [main],
              ...podSpec(plan),
            },
          },
        },
      },
    },
  }
}

function receiver(plan: SchedulePlan, args: string[]) {
  const selector = labels(plan, 'receive')
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: metadata(plan, 'receive', 'receives WAL'),
    spec: {
      // Two of them would want the same slot.
      replicas: 1,
      strategy: { type: 'Recreate' },
      selector: { matchLabels: selector },
      template: {
        metadata: { labels: selector },
        spec: {
          terminationGracePeriodSeconds: 60,
          containers: [container(plan, 'receive', args)],
          ...podSpec(plan),
        },
      },
    },
  }
}

function metadata(plan: SchedulePlan, name: string, text: string) {
  const { namespace } = plan.schedule.kubernetes
  return {
    name: objectName(`pgrecall-${plan.cluster}-${name}`),
    ...(namespace === undefined ? {} : { namespace }),
    labels: labels(plan, name),
    annotations: { 'kubernetes.io/description': `pgrecall: ${text} (cluster ${plan.cluster})` },
  }
}

const labels = ({ cluster }: SchedulePlan, component: string) => ({
  'app.kubernetes.io/name': 'pgrecall',
  'app.kubernetes.io/instance': objectName(cluster),
  'app.kubernetes.io/component': component,
})

function container(plan: SchedulePlan, name: string, args: readonly string[]) {
  const { cluster, dataDirectory, schedule, version } = plan
  return {
    name,
    image: schedule.kubernetes.image ?? `pgrecall:${version}`,
    args: ['--config', `${CONFIG_FOLDER}/config.yaml`, '--cluster', cluster, ...args],
    env: [{ name: 'HOME', value: TEMPORARY_FOLDER }],
    envFrom: [{ secretRef: { name: schedule.kubernetes.secret ?? 'pgrecall-secrets', optional: true } }],
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    },
    volumeMounts: [
      { name: 'config', mountPath: CONFIG_FOLDER, readOnly: true },
      { name: 'tmp', mountPath: TEMPORARY_FOLDER },
      ...plan.writes.map((place) => ({ name: objectName(place.name), mountPath: place.path })),
      ...(dataDirectory
        ? [{ name: objectName(`data-${cluster}`), mountPath: dataDirectory, readOnly: true }]
        : []),
    ],
  }
}

function podSpec({ cluster, dataDirectory, schedule, writes }: SchedulePlan) {
  const { claims, configMap, user } = schedule.kubernetes
  const claim = ({ name, path }: Place, more = {}) => ({
    name: objectName(name),
    persistentVolumeClaim: { claimName: claims[path] ?? objectName(`pgrecall-${name}`), ...more },
  })
  return {
    automountServiceAccountToken: false,
    // No fsGroup: it would give the group rights to the data directory, with which PostgreSQL does not start.
    securityContext: {
      runAsNonRoot: true,
      runAsUser: user,
      runAsGroup: user,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    volumes: [
      { name: 'config', configMap: { name: configMap ?? 'pgrecall-config' } },
      { name: 'tmp', emptyDir: {} },
      ...writes.map((place) => claim(place)),
      ...(dataDirectory ? [claim({ name: `data-${cluster}`, path: dataDirectory }, { readOnly: true })] : []),
    ],
  }
}

/** Lower case, digits and "-"; where something had to be changed, with a sum that keeps names apart. */
function objectName(text: string): string {
  const slug = text
    .toLowerCase()
    .replaceAll('_', '-')
    .replace(/^-+|-+$/g, '')
  if (slug === text && slug.length <= LONGEST_NAME) return slug
  const sum = createHash('sha256').update(text).digest('hex').slice(0, 8)
  return `${slug.slice(0, LONGEST_NAME - sum.length - 1)}-${sum}`
}
