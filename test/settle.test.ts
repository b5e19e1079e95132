import { setTimeout as pause } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Change } from '../src/events.ts';
import { createSettle, type Look, type Save } from '../src/settle.ts';
import { until, within } from './harness.ts';

const change = (file: string, type: Change['type'] = 'change'): Change => ({ type, file });

function settling(look: (file: string, n: number, save: Save) => Promise<Look> | Look) {
  const batches: (readonly Change[])[] = [];
  const looks: string[] = [];
  const settle = createSettle(
    async (file, save) => {
      looks.push(file);
      return look(file, looks.length, save);
    },
    (changes) => void batches.push(changes),
  );
  const batch = (n: number) => until(`batch ${n}`, () => batches[n - 1]);
  return { ...settle, batches, looks, batch };
}

/** Makes this process's clock and timers go so many times as fast, until the end of the block. */
function hurried(times: number): Disposable {
  const { now } = performance;
  const real = globalThis.setTimeout;
  performance.now = () => now.call(performance) * times;
  const timer = (...[call, ms = 0, ...args]: Parameters<typeof real>) => real(call, ms / times, ...args);
  globalThis.setTimeout = timer as typeof real;
  return {
    [Symbol.dispose]() {
      performance.now = now;
      globalThis.setTimeout = real;
    },
  };
}

test('touch() of one file many times is one look and one change', async () => {
  const it = settling((file) => [change(file)]);
  for (let i = 0; i < 10; i++) it.touch('a');
  assert.equal(await it.batch(1), [change('a')]);
  assert.equal(it.looks, ['a']);
});

test('touch() during a look: it is looked at again', async () => {
  const it = settling(async (file, n) => {
    if (n === 1) it.touch(file);
    return n === 1 ? [] : [change(file)];
  });
  it.touch('a');
  await it.batch(1);
  assert.equal(it.looks, ['a', 'a']);
});

test('a number is the time until the next look; a touch shortens it', async () => {
  const it = settling((file, n) => (n === 1 ? 5_000 : [change(file)]));
  it.touch('a');
  await until('the first look', () => it.looks.length === 1);
  it.touch('a');
  await it.batch(1);
});

test('a file that is not settled holds the batch of others, for a bounded time', async () => {
  const it = settling((file) => (file === 'b' ? 100 : [change(file)]));
  const begun = performance.now();
  it.touch('a');
  it.touch('b');
  assert.equal(await it.batch(1), [change('a')]);
  const ms = performance.now() - begun;
  assert.ok(ms > 900 && ms < 3000, `${ms} ms`);
  it.close();
});

test('a burst is one batch', async () => {
  using _ = hurried(0.1); // when the machine stands still for a moment, that is less of one
  const it = settling((file) => [change(file)]);
  for (let i = 0; i < 100; i++) {
    it.touch(`${i}`);
    if (i % 10 === 9) await pause(60);
  }
  await it.batch(1);
  await until('every file', () => it.batches.flat().length === 100);
  assert.ok(it.batches.length <= 2, `${it.batches.map(({ length }) => length)}`);
});

const together: [string, Change['type'][], Change['type'] | undefined][] = [
  ['new, then written', ['add', 'change'], 'add'],
  ['new, then gone', ['add', 'unlink'], undefined],
  ['gone, then there', ['unlink', 'add'], 'change'],
  ['written, then gone', ['change', 'unlink'], 'unlink'],
  ['gone, there, gone', ['unlink', 'add', 'unlink'], 'unlink'],
];

for (const [name, types, expected] of together) {
  test(`a batch of a file that is ${name}: ${expected}`, async () => {
    const it = settling(() => [...types.map((type) => change('a', type)), change('b')]);
    it.touch('a');
    const changes = await it.batch(1);
    assert.is(changes.find(({ file }) => file === 'a')?.type, expected);
  });
}

test('while many files are being changed, one that follows a batch waits for the others', async () => {
  let busy = true;
  const batches: number[] = [];
  const settle = createSettle(
    async (file) => [change(file)],
    (changes) => void batches.push(changes.length),
    () => busy,
  );
  settle.touch('a'); // of one file nobody can tell
  await until('the first', () => batches.length === 1);
  settle.touch('b');
  await pause(60);
  for (let i = 0; i < 20; i++) settle.touch(`${i}`);
  busy = false;
  await settle.idle();
  assert.equal(batches, [1, 21]);
});

test('settled() resolves at once, or when the look is over', async () => {
  let over = false;
  const it = settling(async () => {
    await pause(50);
    over = true;
    return [];
  });
  await it.settled('a');
  assert.not(over);
  it.touch('a');
  await it.settled('b');
  assert.not(over);
  await it.settled('a');
  assert.ok(over);
});

test('settled() of a file that grows without end is false, after 5 s', async () => {
  using _ = hurried(10);
  const it = settling((_file, n, save) => {
    save.part = { size: n, since: performance.now(), patience: 200 };
    return 200;
  });
  it.touch('a');
  await until('the first look', () => it.looks.length > 0, 100_000);
  const begun = performance.now();
  assert.is(await within('settled()', it.settled('a'), 100_000), false);
  const ms = performance.now() - begun;
  assert.ok(ms > 4900, `${ms} ms`);
  await it.close();
});

test('close() ends all waits; nothing is told any more', async () => {
  const it = settling((file) => [change(file)]);
  it.touch('a');
  const waiting = it.settled('a');
  it.close();
  await waiting;
  it.touch('b');
  assert.not(it.has('b'));
  assert.equal(it.batches, []);
});

test.run();
