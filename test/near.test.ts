import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closest } from '../src/near.ts';

const names = ['index.html', 'about.html', 'contact.html', 'Logo.PNG', 'a.css', 'b.css', 'images'];
const wanted: [wanted: string, expected: string[]][] = [
  ['indx.html', ['index.html']],
  ['abuot', ['about.html']],
  ['logo.png', ['Logo.PNG']],
  ['about.htm', ['about.html']],
  ['image', ['images']],
  ['c.css', ['a.css', 'b.css']],
  ['something-else.js', []],
];

for (const [name, expected] of wanted) {
  test(`closest() to ${name}`, () => {
    const entries = names.map((name) => ({ name }));
    assert.equal(
      closest(name, entries).map((entry) => entry.name),
      expected,
    );
  });
}

test('closest() of the same letters in another normal form comes first', () => {
  const entries = ['cafe.html', 'cafe\u0301.html'].map((name) => ({ name }));
  assert.is(closest('caf\u00e9.html', entries)[0]?.name, 'cafe\u0301.html');
});

test.run();
