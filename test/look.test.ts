import { appendFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createBytes } from '../src/bytes.ts';
import { createLinks } from '../src/links.ts';
import { createLook } from '../src/look.ts';
import type { Save } from '../src/settle.ts';
import { createTree } from '../src/tree.ts';
import { folder } from './harness.ts';

/** Looks at entries of a folder that nothing tells of. */
async function looking(dir: string) {
  const tree = createTree({
    hold: async () => ({ close() {} }),
    accepts: () => true,
    touch() {},
    onRenewed() {},
    onLink: async () => true,
    onError() {},
  });
  await tree.walk([dir], false);
  const look = createLook({ tree, bytes: createBytes(), links: createLinks([dir], { isOwn: () => true }) });
  return async (file: string, save: Save) => {
    const found = await look(file, save);
    return typeof found === 'number' ? found : found.map(({ type, file }) => ({ type, file }));
  };
}

/** A save whose first event was so many milliseconds ago. */
const save = (ms = 0): Save => ({ first: performance.now() - ms });

test('look() at a file that is written piece by piece gives it time, until 5 s are over', async () => {
  using site = folder({ 'a.css': 'old '.repeat(10_000) });
  const file = site.file('a.css');
  const look = await looking(site.path);
  assert.equal(await look(file, save()), [{ type: 'change', file }]);
  const growing = save();
  site.write('a.css', '');
  for (let pieces = 0; pieces < 3; pieces++) {
    appendFileSync(file, 'new '.repeat(2000));
    const ms = await look(file, growing);
    assert.ok(typeof ms === 'number' && ms >= 200 && ms <= 2000, `${ms} ms after piece ${pieces}`);
  }
  const { part } = growing;
  appendFileSync(file, 'new ');
  assert.type(await look(file, { ...save(3000), part }), 'number');
  assert.equal(await look(file, { ...save(5000), part }), [{ type: 'change', file }]);
});

test('look() at a file that is emptied waits half a second for its content', async () => {
  using site = folder({ 'a.css': 'old' });
  const file = site.file('a.css');
  const look = await looking(site.path);
  await look(file, save());
  site.write('a.css', '');
  assert.is(await look(file, save()), 500);
  const part = { size: 0, since: performance.now() - 500, patience: 500 };
  assert.equal(await look(file, { ...save(500), part }), [{ type: 'change', file }]);
});

test.run();
