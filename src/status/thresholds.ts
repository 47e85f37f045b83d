/** From when on something is told, and from when on it is a failure. docs/operations.md has the same table. */
export const THRESHOLDS = {
  archiveLateSeconds: { warn: 5 * 60, fail: 15 * 60 },
  diskFullSeconds: { warn: 72 * 3600, fail: 24 * 3600 },
  backupAgeSeconds: { warn: 8 * 24 * 3600 },
  /** Segments are stored side by side, so for a moment a later one can be there before an earlier one. */
  settlingSeconds: 60,
} as const
