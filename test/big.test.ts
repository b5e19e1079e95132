// Many files, many folders that come and go, and the system's own limits: each in a process of its own, whose watches the
// kernel counts.

import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type EventStream,
  type Folder,
  folder,
  freePort,
  get,
  openStream,
  until,
  within,
} from './harness.ts';
import { servers } from './servers.ts';

const isLinux = process.platform === 'linux'; // has /proc, which counts watches

/** 50 files in each folder, 20 folders in each of theirs. */
function tree(folders: number): Folder {
  const site = folder({ 'index.html': '<!doctype html><link rel="stylesheet" href="0/0/0.css">' });
  for (let i = 0; i < folders; i++) {
    const dir = site.file(`${Math.floor(i / 20)}/${i % 20}`);
    mkdirSync(dir, { recursive: true });
    for (let j = 0; j < 50; j++) writeFileSync(`${dir}/${j}.css`, 'old');
  }
  return site;
}

/** Has one of the events, from this one on, named the path? */
const named = (stream: EventStream, path: string, from = 0) =>
  stream.events.slice(from).some(({ data }) => data.includes(`"${path}"`));

test('50,000 files in 1,000 folders: answered during the walk, a watch a folder, an open page first', async () => {
  using site = tree(1000);
  using empty = folder({ 'index.html': '' });
  await using machine = servers();
  // What any start costs, and the code's first run.
  await using small = await machine.start({ root: empty.path });
  await get(small.url, '/');
  const before = await machine.resources();

  const port = await freePort();
  const url = `http://127.0.0.1:${port}/`;
  const starting = machine.start({ root: site.path, port });
  const first = await until('the first answer', () => get(url, '/').catch(() => undefined), 10_000);
  assert.is(first.status, 200);
  assert.is((await get(url, '/49/19/7.css')).text, 'old');
  using stream = await openStream(`${url}__events`);
  site.write('49/19/7.css', 'new');
  await until('the open page’s file', () => named(stream, '/49/19/7.css'), 2000);
  assert.is((await get(url, '/49/19/7.css')).text, 'new');

  await using _ = await within('the start', starting, 30_000);
  site.write('31/3/3.css', 'new');
  await until('any other', () => named(stream, '/31/3/3.css'), 2000);
  const { watches, worked } = await machine.resources();
  if (isLinux) assert.is(watches - before.watches, 1 + 50 + 1000);
  assert.ok(worked < 50, `worked for ${worked} ms in one turn`);
});

test('folders that come and go leave no watch, no descriptor and no memory', async () => {
  using site = folder({ 'x/a.css': 'old' });
  using outside = folder();
  await using machine = servers();
  await using server = await machine.start({ root: site.path });
  using stream = await openStream(`${server.url}__events`);
  let round = 0;
  const comeAndGo = async (rounds: number) => {
    for (const end = round + rounds; round < end; round++) {
      site.write(`${round}/deep/er/a.css`, 'new');
      for (let i = 0; i < 20; i++) site.write(`${round}/deep/${i}.css`, 'new');
      if (round % 3) await until('the new folder', () => named(stream, `/${round}/deep/er/a.css`));
      if (round % 2) rmSync(site.file(`${round}`), { recursive: true });
      else renameSync(site.file(`${round}`), outside.file(`${round}`)); // there the kernel ends no watch by itself
    }
    const from = stream.events.length;
    site.write('x/a.css', `${round}`);
    await until('the end', () => named(stream, '/x/a.css', from));
  };
  await comeAndGo(100);
  const before = await settledResources();
  await comeAndGo(100);
  await comeAndGo(100);
  const after = await until('as many descriptors as before', async () => {
    const found = await settledResources();
    return found.descriptors <= before.descriptors && found;
  });
  assert.is(after.watches, before.watches);
  assert.ok(after.heap < before.heap + 2 * 2 ** 20, `${before.heap} bytes, then ${after.heap}`);

  /** When the watches on what is gone are gone: two of the folders are left. */
  async function settledResources() {
    return until('two watches', async () => {
      const found = await machine.resources();
      return (!isLinux || found.watches === 2) && found;
    });
  }
});

const limits: [string, string, string, number][] = [
  ['ENOSPC', 'max_inotify_watches', 'fs.inotify.max_user_watches', 30],
  ['EMFILE', 'max_inotify_instances', 'fs.inotify.max_user_instances', 0],
];

// Not every system gives one to everybody.
const hasNamespaces =
  spawnSync('unshare', ['-Ur', 'test', '-w', '/proc/sys/user/max_inotify_watches']).status === 0;

for (const [code, limit, fix, most] of hasNamespaces ? limits : []) {
  test(`the kernel's limit of ${limit}: one line with the fix, the rest is polled (${code})`, async () => {
    using site = folder();
    for (let i = 0; i < 60; i++) site.write(`${i}/a.css`, 'old');
    // A user namespace has limits of its own.
    await using machine = servers([
      'unshare',
      '-Ur',
      'sh',
      '-c',
      `echo ${most} > /proc/sys/user/${limit}; exec "$@"`,
      'sh',
    ]);
    await using server = await machine.start({ root: site.path });
    using stream = await openStream(`${server.url}__events`);
    for (const content of ['new', 'newer']) {
      const from = stream.events.length;
      for (let i = 0; i < 60; i++) site.write(`${i}/a.css`, content);
      site.write(`${content}/b.css`, 'new');
      const names = [...Array(60).keys()].map((i) => `/${i}/a.css`).concat(`/${content}/b.css`);
      await until('every file', () => names.every((name) => named(stream, name, from)), 20_000);
      assert.is((await get(server.url, '/59/a.css')).text, content);
    }
    const notices = await server.notices();
    assert.is(notices.length, 1, notices.join('\n'));
    assert.match(notices[0] ?? '', code);
    assert.match(notices[0] ?? '', `sysctl ${fix}`);
    assert.ok((await machine.resources()).watches <= most);
  });
}

test.run();
