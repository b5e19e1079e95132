import { spawnSync } from 'node:child_process';
import { chmodSync, readdirSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { leaveNote, type Note, runningServers, serversFor } from '../src/running.ts';
import { folder, freePort, within } from './harness.ts';

/** Something that listens, and its address. */
async function listening() {
  const server = createServer().listen(0, '127.0.0.1');
  await within('a server to listen', new Promise((resolve) => server.once('listening', resolve)));
  const { port } = server.address() as { port: number };
  return { url: `http://127.0.0.1:${port}/`, [Symbol.dispose]: () => void server.close() };
}

test('leaveNote() tells runningServers() until it is taken away; nobody else can read it', async () => {
  using home = folder();
  using server = await listening();
  const note: Note = { pid: process.pid, url: server.url, folders: { '': '/site' } };
  const notes = home.file('live-sse');
  const remove = leaveNote(note, notes);
  assert.is(statSync(notes).mode & 0o777, 0o700);
  const [name = ''] = readdirSync(notes);
  assert.is(statSync(`${notes}/${name}`).mode & 0o777, 0o600);
  assert.equal(await runningServers(notes), [note]);
  remove();
  remove();
  assert.equal(readdirSync(notes), []);
  assert.equal(await runningServers(notes), []);
});

test('runningServers() forgets processes that are gone, and servers that do not listen', async () => {
  using home = folder();
  const notes = home.file('live-sse');
  const { pid } = spawnSync(process.execPath, ['--version']);
  using server = await listening();
  leaveNote({ pid, url: server.url, folders: {} }, notes);
  leaveNote({ pid: process.pid, url: `http://127.0.0.1:${await freePort()}/`, folders: {} }, notes);
  assert.is(readdirSync(notes).length, 2);
  assert.equal(await runningServers(notes), []);
  assert.equal(readdirSync(notes), []);
});

test('leaveNote() replaces the note of who had its address before', async () => {
  using home = folder();
  using server = await listening();
  const note = { pid: process.pid, url: server.url };
  leaveNote({ ...note, folders: { '': '/old' } }, home.file('live-sse'));
  leaveNote({ ...note, folders: { '': '/new' } }, home.file('live-sse'));
  assert.equal(await runningServers(home.file('live-sse')), [{ ...note, folders: { '': '/new' } }]);
});

test('notes in a folder that others can write to are neither left nor believed', async () => {
  using home = folder();
  const notes = home.file('live-sse');
  using server = await listening();
  const note: Note = { pid: process.pid, url: server.url, folders: {} };
  leaveNote(note, notes);
  chmodSync(notes, 0o777);
  assert.equal(await runningServers(notes), []);
  assert.throws(() => leaveNote(note, notes), /belongs to another user/);
});

test('runningServers() passes over what is no note', async () => {
  using home = folder({ 'notes/a.json': '{', 'notes/b.json': 'null', 'notes/c.json': '{"pid":1,"url":"x"}' });
  chmodSync(home.file('notes'), 0o700);
  assert.equal(await runningServers(home.file('notes')), []);
  assert.equal(await runningServers(home.file('nowhere')), []);
});

const servers = ['/p', '/p/dist', '/p/docs', '/other'].map((root) => ({ folders: { '': root } }));
const meant: [folder: string, roots: string[]][] = [
  ['/p', ['/p']],
  ['/p/src', ['/p']],
  ['/p/dist', ['/p/dist']],
  ['/p/dist/css', ['/p/dist']],
  ['/p-too', []],
  ['/other', ['/other']],
  ['/', ['/p', '/p/dist', '/p/docs', '/other']],
  ['/nowhere', []],
];
for (const [from, roots] of meant) {
  test(`serversFor() ${from} are those of ${roots.join(', ') || 'nobody'}`, () => {
    assert.equal(
      serversFor(servers, from).map(({ folders }) => folders['']),
      roots,
    );
  });
}

test.run();
