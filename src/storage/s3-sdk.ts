/**
 * What is used of the AWS SDK, and nothing else of it is bundled. Loading it costs 100 ms, so only a dynamic import leads here:
 * who has no repository in a bucket does not pay for it.
 */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  GetObjectLockConfigurationCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  PutObjectRetentionCommand,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3'

export { S3Client } from '@aws-sdk/client-s3'
export { fromIni } from '@aws-sdk/credential-provider-ini'

export const COMMANDS = {
  AbortMultipartUpload: AbortMultipartUploadCommand,
  CompleteMultipartUpload: CompleteMultipartUploadCommand,
  CreateMultipartUpload: CreateMultipartUploadCommand,
  DeleteObject: DeleteObjectCommand,
  GetBucketVersioning: GetBucketVersioningCommand,
  GetObject: GetObjectCommand,
  GetObjectLockConfiguration: GetObjectLockConfigurationCommand,
  HeadObject: HeadObjectCommand,
  ListMultipartUploads: ListMultipartUploadsCommand,
  ListObjectsV2: ListObjectsV2Command,
  ListParts: ListPartsCommand,
  PutObject: PutObjectCommand,
  PutObjectRetention: PutObjectRetentionCommand,
  UploadPart: UploadPartCommand,
  UploadPartCopy: UploadPartCopyCommand,
}
