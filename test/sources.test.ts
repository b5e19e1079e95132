import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createSources } from '../src/sources.ts';

const MB = 1024 * 1024;

test('remember() gives the same hash for the same bytes, and find() gives them', () => {
  const sources = createSources();
  const hash = sources.remember(Buffer.from('<p>é'));
  assert.is(hash, sources.remember(Buffer.from('<p>é')));
  assert.is(sources.find(hash ?? '')?.toString(), '<p>é');
  assert.is(sources.find('other'), undefined);
  assert.is(sources.remember(Buffer.alloc(2 * MB + 1)), undefined);
});

test('collect() remembers what has come to its end, under an id of its own', () => {
  const sources = createSources();
  const [one, two] = [sources.collect(), sources.collect()];
  assert.is.not(one.id, two.id);
  assert.match(one.id, /^[\w-]{22}$/);
  for (const piece of ['<p>', 'é']) one.add(Buffer.from(piece));
  assert.is(sources.find(one.id), undefined);
  one.end();
  assert.is(sources.find(one.id)?.toString(), '<p>é');
});

test('collect() of more than 1 MiB remembers nothing', () => {
  const sources = createSources();
  const [large, fits] = [sources.collect(), sources.collect()];
  for (let i = 0; i < 16; i++) fits.add(Buffer.alloc(MB / 16));
  for (let i = 0; i < 17; i++) large.add(Buffer.alloc(MB / 16));
  large.end();
  fits.end();
  assert.is(sources.find(large.id), undefined);
  assert.is(sources.find(fits.id)?.length, MB);
});

test('what was used last stays, 32 MiB of it', () => {
  const sources = createSources();
  const first = sources.remember(Buffer.alloc(10, 'a')) ?? '';
  const ids = Array.from({ length: 33 }, () => {
    const page = sources.collect();
    page.add(Buffer.alloc(MB));
    page.end();
    return page.id;
  });
  assert.equal(
    [first, ...ids].map((id) => sources.find(id)?.length),
    [undefined, undefined, ...Array(32).fill(MB)],
  );
});

test.run();
