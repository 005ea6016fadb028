/** Tests that the bundles of the pages were built from the modules as they are. */

import assert from 'node:assert/strict';
import {readFileSync, readdirSync} from 'node:fs';
import {test} from 'node:test';
import * as strings from '../../../public/strings.js';
import {bundles, bundlesURL} from '../lib/bundle.js';

const built = await bundles();

test('the bundles are those of the pages', () => {
  assert.deepEqual(readdirSync(bundlesURL).sort(), [...built.keys()].sort(), 'run scripts/bundle');
});

for (const [name, text] of built) {
  test(`${name} is up to date`, () => {
    assert.ok(readFileSync(new URL(name, bundlesURL), 'utf8') === text, 'a module has changed: run scripts/bundle');
    assert.equal(text.includes('only supports encoding string'), text.includes('uqr.LICENSE.txt'), 'the QR code has its licence');
  });
}

test('a call page does not wait for the parts that it loads later', () => {
  for (const name of ['call', 'send', 'receive']) {
    const first = ['', '-chunk'].map(part => built.get(`${name}${part}.js`) ?? '').join('');
    const later = built.get(`${name}-later.js`) ?? '';
    for (const text of [strings.share.secret, strings.pairing.letIn, strings.reason.keepsTrying]) {
      assert.ok(later.includes(text) && !first.includes(text), `${name}: ${text}`);
    }
  }
});
