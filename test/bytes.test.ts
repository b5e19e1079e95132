import { appendFileSync, mkdirSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createBytes } from '../src/bytes.ts';
import { folder } from './harness.ts';

test('compare() of a file that nothing is known of is different, then same', async () => {
  using site = folder({ 'a.css': 'old' });
  const bytes = createBytes();
  assert.is(await bytes.compare(site.file('a.css')), 'different');
  assert.is(await bytes.compare(site.file('a.css')), 'same');
  bytes.forget(site.file('a.css'));
  assert.is(await bytes.compare(site.file('a.css')), 'different');
});

test('compare() after learn(): a touch is same, other bytes are different', async () => {
  using site = folder({ 'a.css': 'old' });
  const bytes = createBytes();
  await bytes.learn(site.file('a.css'));
  utimesSync(site.file('a.css'), 1, 1);
  assert.is(await bytes.compare(site.file('a.css')), 'same');
  site.write('a.css', 'new');
  assert.is(await bytes.compare(site.file('a.css')), 'different');
});

test('compare() after learn(): an event of a change that was learned already is different', async () => {
  using site = folder({ 'a.css': 'old' });
  const bytes = createBytes();
  await bytes.learn(site.file('a.css'));
  assert.is(await bytes.compare(site.file('a.css')), 'different');
  assert.is(await bytes.compare(site.file('a.css')), 'same');
});

test('learn() learns nothing if an event comes meanwhile', async () => {
  using site = folder({ 'a.css': 'old' });
  const bytes = createBytes();
  const learning = bytes.learn(site.file('a.css'));
  bytes.touched(site.file('a.css'));
  await learning;
  utimesSync(site.file('a.css'), 1, 1);
  assert.is(await bytes.compare(site.file('a.css')), 'different');
});

test('compare() is different if the file was written at any moment of learn()', async () => {
  using site = folder({ 'a.css': 'old' });
  const file = site.file('a.css');
  for (let round = 0; round < 300; round++) {
    const bytes = createBytes();
    const learning = bytes.learn(file);
    for (let turn = 0; turn < round % 20; turn++) await new Promise(setImmediate);
    site.write('a.css', `${round}`.padStart(4));
    await learning;
    assert.is(await bytes.compare(file), 'different', `round ${round}`);
  }
});

test('compare() of a file that goes on where it ended a moment ago is its size, until it stays', async () => {
  using site = folder({ 'a.css': 'first ' });
  const bytes = createBytes();
  const file = site.file('a.css');
  using _ = stoppedClock(); // or a slow disk might make it more than a moment
  await bytes.compare(file);
  appendFileSync(file, 'second ');
  assert.is(await bytes.compare(file), 13);
  appendFileSync(file, 'third');
  assert.is(await bytes.compare(file, (size) => size === 13), 18);
  assert.is(await bytes.compare(file, (size) => size === 18), 'different');
  site.write('a.css', 'something longer, but other');
  assert.is(await bytes.compare(file), 'different');
});

for (const size of [0, 1, 512 * 1024 - 1, 512 * 1024, 512 * 1024 + 1, 2_000_000]) {
  test(`compare() of ${size} bytes sees the last one`, async () => {
    using site = folder({ a: Buffer.alloc(size, 'a') });
    const bytes = createBytes();
    await bytes.compare(site.file('a'), () => true);
    assert.is(await bytes.compare(site.file('a')), 'same');
    if (size === 0) return;
    const last = Buffer.alloc(size, 'a');
    last[size - 1] = 98;
    writeFileSync(site.file('a'), last);
    assert.is(await bytes.compare(site.file('a'), () => true), 'different');
  });
}

/** No time passes until the end of the block. */
function stoppedClock(): Disposable {
  const { now } = performance;
  const at = performance.now();
  performance.now = () => at;
  return {
    [Symbol.dispose]() {
      performance.now = now;
    },
  };
}

const text = `${'.a { color: red }\n'.repeat(1000)}`;
const other = text.replaceAll('red', 'blue');
const parts: [string, string | undefined, string, number | 'different'][] = [
  ['the first piece', text, other.slice(0, 4100), 4100],
  ['the first piece, if it ends like the whole', text, other.slice(0, 18 * 300), 18 * 300],
  ['all but the last piece', text, other.slice(0, -5), other.length - 5],
  [
    'most of it, as buffers cut it, if it ends like the whole',
    `${text}\n\n`,
    `${'a {}\n\n\n\n'.repeat(2048)}`,
    16384,
  ],
  [
    'the same length again, of whole buffers',
    'a {}\n\n\n\n'.repeat(512),
    'b {}\n\n\n\n'.repeat(512),
    'different',
  ],
  ['the first buffers of a new file', undefined, 'a'.repeat(8192), 8192],
  ['a new file', undefined, 'a'.repeat(8193), 'different'],
  ['nothing yet of a new file', undefined, '', 0],
  ['nothing yet', text, '', 0],
  ['nothing yet, of a file of one piece', 'a', '', 0],
  ['the whole', text, other, 'different'],
  ['the whole with a line less', text, other.slice(18), 'different'],
  ['a file of one piece', 'a {}\n', 'b', 'different'],
  ['more behind what was there', text, `${text}b`, 'different'],
];

for (const [name, before, now, expected] of parts) {
  test(`compare() of ${name} is ${expected}`, async () => {
    using site = folder(before === undefined ? {} : { 'a.css': before });
    const bytes = createBytes();
    await bytes.learn(site.file('a.css'));
    site.write('a.css', now);
    assert.is(await bytes.compare(site.file('a.css')), expected);
    if (expected === 'different') return;
    assert.is(await bytes.compare(site.file('a.css'), (size) => size === now.length), 'different');
  });
}

test('compare() of a file that begins to grow as it is read takes no read a byte', async () => {
  using site = folder({ a: '' });
  const file = site.file('a');
  const bytes = createBytes();
  const comparing = bytes.compare(file);
  let left = 50;
  const writing = setInterval(() => {
    if (left-- > 0) appendFileSync(file, Buffer.alloc(100_000));
  }, 1);
  const begun = performance.now();
  await comparing;
  clearInterval(writing);
  assert.ok(performance.now() - begun < 2000);
});

test('isCurrent() is not while a file that is being truncated has its old time', async () => {
  using site = folder({ a: 'old' });
  const bytes = createBytes();
  await bytes.compare(site.file('a'));
  const { ctimeMs, size } = statSync(site.file('a'));
  assert.ok(bytes.isCurrent(site.file('a'), { ctimeMs, size }));
  assert.not(bytes.isCurrent(site.file('a'), { ctimeMs, size: 0 }));
  assert.not(bytes.isCurrent(site.file('a'), { ctimeMs: ctimeMs + 1, size }));
});

test('compare() of a very large file is by its time', async () => {
  using site = folder({ a: '' });
  const bytes = createBytes();
  const file = site.file('a');
  truncateSync(file, 100 * 1024 * 1024 + 1);
  utimesSync(file, 1, 1);
  await bytes.compare(file);
  assert.is(await bytes.compare(file), 'same');
  utimesSync(file, 2, 2);
  assert.is(await bytes.compare(file), 'different');
});

test('compare() of what is no file, or gone, is different', async () => {
  using site = folder();
  const bytes = createBytes();
  mkdirSync(site.file('folder'));
  assert.is(await bytes.compare(site.file('folder')), 'different');
  assert.is(await bytes.compare(site.file('gone')), 'different');
});

test.run();
