import { statSync, utimesSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { FoundFile } from '../src/resolve.ts';
import { createVersions, modifiedOf, type Open } from '../src/versions.ts';
import { folder, until } from './harness.ts';

const found = (file: string): FoundFile => ({
  type: 'file',
  file,
  path: '/',
  stats: statSync(file, { bigint: true }),
});

/** Opens files as they are, and counts. */
function counting() {
  let count = 0;
  const open: Open = async ({ file, stats }) => {
    count++;
    const source = Readable.from([await readFile(file)]);
    return { type: 'text/plain', stats, source, isUnchanged: () => true };
  };
  return { open, count: () => count };
}

/** Waits until the disk's clock has gone on since the file was saved. */
async function aged(file: string): Promise<void> {
  await until('an older file', () => Date.now() - Number(statSync(file, { bigint: true }).ctimeMs) > 100);
}

test('a file that is the same is read once, also for many at once', async () => {
  using root = folder({ a: 'x' });
  await aged(root.file('a'));
  const { open, count } = counting();
  const versionNow = createVersions(open, 1000);
  const versions = await Promise.all(Array.from({ length: 9 }, () => versionNow(found(root.file('a')))));
  assert.is(await versionNow(found(root.file('a'))), versions[0]);
  assert.is(new Set(versions).size, 1);
  assert.is(count(), 1);
});

test('a file that was only touched has a new date and the same Buffer', async () => {
  using root = folder({ a: 'x' });
  await aged(root.file('a'));
  const versionNow = createVersions(counting().open, 1000);
  const before = await versionNow(found(root.file('a')));
  utimesSync(root.file('a'), 1_000, 1_000);
  const after = await versionNow(found(root.file('a')));
  assert.is(after?.body, before?.body);
  assert.is(after?.etag, before?.etag);
  assert.is(after?.modified, 1_000_000);
});

test('other bytes have another tag, and know the date of those before', async () => {
  using root = folder({ a: 'x' });
  utimesSync(root.file('a'), 2_000, 2_000);
  const versionNow = createVersions(counting().open, 1000);
  const before = await versionNow(found(root.file('a')));
  root.write('a', 'y');
  utimesSync(root.file('a'), 1_000, 1_000);
  const after = await versionNow(found(root.file('a')));
  assert.is.not(after?.etag, before?.etag);
  assert.is(after?.supersedes, 2_000_000);
});

test('no more is kept than the limit, and what was used last stays', async () => {
  using root = folder({ a: 'x'.repeat(40), b: 'x'.repeat(40), c: 'x'.repeat(40), huge: 'x'.repeat(60) });
  await aged(root.file('c'));
  await aged(root.file('huge'));
  const { open, count } = counting();
  const versionNow = createVersions(open, 100);
  const use = (names: string[]) =>
    names.reduce(async (before, name) => {
      await before;
      await versionNow(found(root.file(name)));
    }, Promise.resolve());
  await use(['a', 'b', 'a', 'c', 'a']);
  assert.is(count(), 3);
  await use(['b']);
  assert.is(count(), 4);
  await use(['huge', 'huge', 'b']);
  assert.is(count(), 6);
});

test('a file that is never the same is given up', async () => {
  using root = folder({ a: 'x' });
  let opened = 0;
  const restless: Open = async ({ stats }) => {
    opened++;
    return { type: '', stats, source: Readable.from([Buffer.from('x')]), isUnchanged: () => false };
  };
  assert.is(await createVersions(restless, 100)(found(root.file('a'))), undefined);
  assert.ok(opened < 100);
});

test('a file that goes away is no version', async () => {
  using root = folder({ a: 'x' });
  const gone: Open = async () => undefined;
  assert.is(await createVersions(gone, 100)(found(root.file('a'))), undefined);
});

test('modifiedOf() is whole seconds and not in the future', () => {
  const stats = (mtimeMs: bigint) => ({ mtimeMs });
  assert.is(modifiedOf(stats(1_999n)), 1_000);
  assert.ok(modifiedOf(stats(9_999_999_999_999n)) <= Date.now());
});

test.run();
