;; PostgreSQL's page verification, over the memory in which the pages lie. scripts/build.ts assembles it; page-checksum.ts
;; calls it. The checksum is that of src/include/storage/checksum_impl.h: a page is a table of 32-bit numbers, 32 to a row;
;; each column has a sum of its own (FNV-1a, four bytes at a time), and the sums are folded into 16 bits. Here, a vector
;; holds four columns, so $sum0 to $sum7 are all 32.
;;
;; The fields of a page's header that matter (src/include/storage/bufpage.h):
;;   0 pd_lsn, two u32, the high one first   8 pd_checksum, u16   14 pd_upper, u16
(module
  (import "page" "memory" (memory 1))

  ;; The highest pd_lsn of the pages that were right. The caller sets it back.
  (global $maxLsn (export "maxLsn") (mut i64) (i64.const 0))

  ;; Takes one value of each of four columns into their sums: CHECKSUM_COMP. The engine inlines it.
  (func $take (param $sums v128) (param $values v128) (result v128)
    (local $mixed v128)
    (local.set $mixed (v128.xor (local.get $sums) (local.get $values)))
    (v128.xor
      (i32x4.mul (local.get $mixed) (v128.const i32x4 16777619 16777619 16777619 16777619))
      (i32x4.shr_u (local.get $mixed) (i32.const 17))))

  ;; The sums after the last row: two rounds of zeros, for the bits of the last values.
  (func $finish (param $sums v128) (result v128)
    (call $take (call $take (local.get $sums) (v128.const i64x2 0 0)) (v128.const i64x2 0 0)))

  ;; pg_checksum_page
  (func $checksum (param $page i32) (param $end i32) (param $block i32) (result i32)
    (local $row i32)
    (local $sum0 v128) (local $sum1 v128) (local $sum2 v128) (local $sum3 v128)
    (local $sum4 v128) (local $sum5 v128) (local $sum6 v128) (local $sum7 v128)

    ;; checksumBaseOffsets
    (local.set $sum0 (v128.const i32x4 0x5b1f36e9 0xb8525960 0x02ab50aa 0x1de66d2a))
    (local.set $sum1 (v128.const i32x4 0x79ff467a 0x9bb9f8a3 0x217e7cd2 0x83e13d2c))
    (local.set $sum2 (v128.const i32x4 0xf8d4474f 0xe39eb970 0x42c6ae16 0x993216fa))
    (local.set $sum3 (v128.const i32x4 0x7b093b5d 0x98daff3c 0xf718902a 0x0b1c9cdb))
    (local.set $sum4 (v128.const i32x4 0xe58f764b 0x187636bc 0x5d7b3bb1 0xe73de7de))
    (local.set $sum5 (v128.const i32x4 0x92bec979 0xcca6c0b2 0x304a0979 0x85aa43d4))
    (local.set $sum6 (v128.const i32x4 0x783125bb 0x6ca8eaa2 0xe407eac6 0x4b5cfc3e))
    (local.set $sum7 (v128.const i32x4 0x9fbf8c76 0x15ca20be 0xf2ca9fd3 0x959bd756))

    ;; The checksum field counts as zero. It goes into its sum by xor, so putting it there beforehand takes it out again,
    ;; and the page need not be written to.
    (local.set $sum0
      (v128.xor
        (local.get $sum0)
        (i32x4.replace_lane 2 (v128.const i64x2 0 0) (i32.load16_u offset=8 (local.get $page)))))

    (local.set $row (local.get $page))
    (loop $rows
      (local.set $sum0 (call $take (local.get $sum0) (v128.load offset=0 (local.get $row))))
      (local.set $sum1 (call $take (local.get $sum1) (v128.load offset=16 (local.get $row))))
      (local.set $sum2 (call $take (local.get $sum2) (v128.load offset=32 (local.get $row))))
      (local.set $sum3 (call $take (local.get $sum3) (v128.load offset=48 (local.get $row))))
      (local.set $sum4 (call $take (local.get $sum4) (v128.load offset=64 (local.get $row))))
      (local.set $sum5 (call $take (local.get $sum5) (v128.load offset=80 (local.get $row))))
      (local.set $sum6 (call $take (local.get $sum6) (v128.load offset=96 (local.get $row))))
      (local.set $sum7 (call $take (local.get $sum7) (v128.load offset=112 (local.get $row))))
      (local.set $row (i32.add (local.get $row) (i32.const 128)))
      (br_if $rows (i32.lt_u (local.get $row) (local.get $end))))

    (local.set $sum0 (v128.xor (call $finish (local.get $sum0)) (call $finish (local.get $sum1))))
    (local.set $sum2 (v128.xor (call $finish (local.get $sum2)) (call $finish (local.get $sum3))))
    (local.set $sum4 (v128.xor (call $finish (local.get $sum4)) (call $finish (local.get $sum5))))
    (local.set $sum6 (v128.xor (call $finish (local.get $sum6)) (call $finish (local.get $sum7))))
    (local.set $sum0 (v128.xor (local.get $sum0) (local.get $sum2)))
    (local.set $sum4 (v128.xor (local.get $sum4) (local.get $sum6)))
    (local.set $sum0 (v128.xor (local.get $sum0) (local.get $sum4)))

    ;; The block number, so that a page in another's place is noticed; then to 1 .. 65535.
    (i32.xor
      (i32.xor (i32x4.extract_lane 0 (local.get $sum0)) (i32x4.extract_lane 1 (local.get $sum0)))
      (i32.xor (i32x4.extract_lane 2 (local.get $sum0)) (i32x4.extract_lane 3 (local.get $sum0))))
    (i32.xor (local.get $block))
    (i32.rem_u (i32.const 65535))
    (i32.add (i32.const 1)))

  (func $isZero (param $row i32) (param $end i32) (result i32)
    (loop $rows
      (if (v128.any_true (v128.load (local.get $row))) (then (return (i32.const 0))))
      (local.set $row (i32.add (local.get $row) (i32.const 16)))
      (br_if $rows (i32.lt_u (local.get $row) (local.get $end))))
    (i32.const 1))

  ;; What PageIsVerified asks of a checksum (src/backend/storage/page/bufpage.c): a new page, which has none yet, must be
  ;; nothing but zeros.
  (func $isRight (param $page i32) (param $end i32) (param $block i32) (result i32)
    (if (result i32) (i32.load16_u offset=14 (local.get $page))
      (then
        (i32.eq
          (call $checksum (local.get $page) (local.get $end) (local.get $block))
          (i32.load16_u offset=8 (local.get $page))))
      (else (call $isZero (local.get $page) (local.get $end)))))

  ;; Checks $pages pages from $page on, of which the first is block $block. Writes the index of each wrong one, a u32, to
  ;; $wrong and gives back how many there are.
  (func (export "check")
    (param $page i32) (param $pageBytes i32) (param $pages i32) (param $block i32) (param $wrong i32) (result i32)
    (local $index i32) (local $end i32) (local $count i32) (local $lsn i64)
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $index) (local.get $pages)))
        (local.set $end (i32.add (local.get $page) (local.get $pageBytes)))
        (if (call $isRight (local.get $page) (local.get $end) (i32.add (local.get $block) (local.get $index)))
          (then
            (local.set $lsn (i64.rotl (i64.load (local.get $page)) (i64.const 32)))
            (if (i64.gt_u (local.get $lsn) (global.get $maxLsn)) (then (global.set $maxLsn (local.get $lsn)))))
          (else
            (i32.store
              (i32.add (local.get $wrong) (i32.shl (local.get $count) (i32.const 2)))
              (local.get $index))
            (local.set $count (i32.add (local.get $count) (i32.const 1)))))
        (local.set $page (local.get $end))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    (local.get $count)))
