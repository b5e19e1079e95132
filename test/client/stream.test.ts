import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isLater, isNews } from '../../client/stream.ts';

const ids: [string, id: string, cursor: string, expected: boolean][] = [
  ['the next event is', 'mi7c2k-42', 'mi7c2k-41', true],
  ['the same event is not', 'mi7c2k-42', 'mi7c2k-42', false],
  ['an earlier event is not', 'mi7c2k-9', 'mi7c2k-41', false],
  ['an event of another boot is', 'mi7c2z-0', 'mi7c2k-41', true],
  ['any event is, for a page that had none', 'mi7c2k-0', '', true],
  ['numbers are compared as such', 'mi7c2k-100', 'mi7c2k-99', true],
  ['a dash in the boot belongs to it', 'a-b-2', 'a-c-3', true],
];

for (const [name, id, cursor, expected] of ids) {
  test(`isNews(): ${name}`, () => assert.is(isNews(id, cursor), expected));
}

const pairs: [string, id: string, other: string, expected: boolean][] = [
  ['a higher number', 'mi7c2k-42', 'mi7c2k-9', true],
  ['a lower number', 'mi7c2k-9', 'mi7c2k-42', false],
  ['the same', 'mi7c2k-9', 'mi7c2k-9', false],
  ['a later boot', 'mi7c2z-0', 'mi7c2k-42', true],
  ['an earlier boot', 'mi7c2k-42', 'mi7c2z-0', false],
  ['any id and none', 'mi7c2k-0', '', true],
];

for (const [name, id, other, expected] of pairs) {
  test(`isLater(): ${name}`, () => assert.is(isLater(id, other), expected));
}

test.run();
