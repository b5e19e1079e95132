import { mkdirSync, renameSync, rmSync, utimesSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createPoller } from '../src/poll.ts';
import { type Folder, folder, until } from './harness.ts';

/** A polled folder, and the names that were told. */
async function polled(site: Folder, ms: number) {
  const told: string[] = [];
  const poller = createPoller(
    async () => ms,
    (file) => !basename(file).startsWith('.'),
  );
  const onEvent = (name: string | undefined) => void told.push(name ?? '?');
  const hold = await poller.hold(site.path, onEvent);
  return { told, [Symbol.asyncDispose]: async () => hold.close() };
}

test('a poller tells what has changed, come and gone, and nothing else', async () => {
  using site = folder({ a: 'old', b: 'old', c: 'old', same: 'old', 'x/d': 'old', 'y/e': 'old' });
  await pause(30); // what is older than a tick is not told
  await using it = await polled(site, 20);
  site.write('a', 'new');
  site.write('new', 'new');
  site.write('.hidden', 'new');
  site.write('x/d', 'new');
  rmSync(site.file('b'));
  utimesSync(site.file('c'), 1, 1);
  renameSync(site.file('y'), site.file('z'));
  mkdirSync(site.file('y'));
  const expected = new Set(['a', 'new', 'b', 'c', 'y', 'z']);
  await until('all of it, what was written twice', () => it.told.length === expected.size + 3);
  assert.equal(new Set(it.told), expected);
  it.told.length = 0;
  await pause(100);
  assert.equal(it.told, []);
});

test('a poller tells a change that was made before the second look, however late that comes', async () => {
  using site = folder({ a: 'old' });
  const begun = performance.now();
  await using it = await polled(site, 200);
  site.write('a', 'new');
  await until('a', () => it.told.includes('a'));
  assert.ok(performance.now() - begun > 100);
});

test('a poller tells a change twice: another may have got the same time', async () => {
  using site = folder({ a: 'old' });
  await pause(30);
  await using it = await polled(site, 20);
  site.write('a', 'new');
  await until('a, twice', () => it.told.length === 2);
  await pause(100);
  assert.equal(it.told, ['a', 'a']);
  // Where seconds are all that is kept, it takes longer.
  utimesSync(site.file('a'), 1, 1);
  await until('a again, twice', () => it.told.length === 4);
});

test('a poller goes on where another folder is gone, and ends with the last one', async () => {
  using site = folder({ 'x/a': 'old', 'y/b': 'old' });
  const told: string[] = [];
  const poller = createPoller(
    async () => 10,
    () => true,
  );
  const hold = (name: string) => poller.hold(site.file(name), (entry) => void told.push(`${name} ${entry}`));
  const holds = [await hold('x'), await hold('y')];
  rmSync(site.file('x'), { recursive: true });
  await until('x is gone', () => told.includes('x undefined'));
  site.write('y/b', 'new');
  await until('y', () => told.includes('y b'));
  await Promise.all(holds.map((it) => it.close()));
  told.length = 0;
  site.write('y/b', 'newer');
  await pause(50);
  assert.equal(told, []);
  // And begins again.
  const again = await hold('y');
  site.write('y/b', 'newest');
  await until('y again', () => told.includes('y b'));
  await again.close();
});

test.run();
