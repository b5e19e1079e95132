// The import graph: cli → server → live → the parts, and each package in one file.

import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const src = new URL('../src/', import.meta.url);

/** What a file needs when it runs; types are gone by then. */
function imports(file: string): string[] {
  const text = readFileSync(new URL(file, src), 'utf8');
  const statements = text.matchAll(/^(?:import|export) (?!type\b)[^;]*?from '([^']+)'/gm);
  const dynamic = text.matchAll(/\bimport\('([^']+)'\)/g);
  return [...statements, ...dynamic].map(([, name = '']) => name);
}

const files = readdirSync(src).filter((name) => name.endsWith('.ts'));
const graph = new Map(files.map((file) => [file, imports(file)]));
const importers = (name: string) => files.filter((file) => graph.get(file)?.includes(name)).sort();

for (const [name, file] of [
  ['chokidar', 'hold.ts'],
  ['sirv', 'static.ts'],
  ['httpxy', 'proxy.ts'],
  ['mri', 'cli.ts'],
  ['open', 'server.ts'],
  ['picomatch', 'ignore.ts'],
  ['uqr', 'cli.ts'],
  ['node-forge', 'certificate.ts'],
  ['launch-editor', 'editor.ts'],
]) {
  test(`${name} is imported by ${file} alone`, () => assert.equal(importers(name ?? ''), [file]));
}

test('cli.ts needs server.ts, which needs live.ts, and nobody needs them otherwise', () => {
  assert.equal(importers('./cli.ts'), []);
  assert.equal(importers('./server.ts'), ['cli.ts', 'index.ts']);
  assert.equal(importers('./live.ts'), ['index.ts', 'server.ts']);
});

test('no file needs itself by way of others', () => {
  const circle = (file: string, path: readonly string[]): readonly string[] | undefined => {
    if (path.includes(file)) return [...path, file];
    const local = (graph.get(file) ?? []).filter((name) => name.startsWith('./'));
    for (const name of local) {
      const found = circle(name.slice(2), [...path, file]);
      if (found) return found;
    }
    return undefined;
  };
  assert.equal(files.map((file) => circle(file, [])).find(Boolean), undefined);
});

test('the event stream, the guard and the vocabulary stand alone', () => {
  const local = (file: string) => graph.get(file)?.filter((name) => name.startsWith('.'));
  assert.equal(local('sse.ts'), []);
  assert.equal(local('guard.ts'), []);
  assert.equal(local('events.ts'), []);
});

test.run();
