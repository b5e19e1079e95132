import { utimesSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { findLock, isLocked } from '../src/git.ts';
import { folder } from './harness.ts';

test('findLock() of a folder in a repository, a worktree, and neither', () => {
  using site = folder({
    'one/.git/HEAD': '',
    'one/x/y/a': '',
    'two/.git': 'gitdir: ../one/.git/worktrees/two\n',
    'three/.git': '?',
  });
  assert.is(findLock(site.file('one/x/y')), site.file('one/.git/index.lock'));
  assert.is(findLock(site.file('two')), site.file('one/.git/worktrees/two/index.lock'));
  assert.is(findLock(site.file('three')), undefined);
  assert.is(findLock(site.path), undefined);
});

test('isLocked() while the lock is there, and young', () => {
  using site = folder();
  assert.not(isLocked(site.file('index.lock')));
  const lock = site.write('index.lock', '');
  assert.ok(isLocked(lock));
  utimesSync(lock, 1, 1);
  assert.not(isLocked(lock));
});

test.run();
