/** Tests that the bundles of the pages were built from the modules as they are. */

import assert from 'node:assert/strict';
import {readFileSync, readdirSync} from 'node:fs';
import {test} from 'node:test';
import {bundle, bundleNames, bundlesURL} from '../lib/bundle.js';

test('each page has a bundle', () => {
  assert.deepEqual(readdirSync(bundlesURL).sort(), [...bundleNames].sort(), 'run scripts/bundle');
});

for (const name of bundleNames) {
  test(`${name} is up to date and complete`, async () => {
    const built = await bundle(name);
    assert.ok(readFileSync(new URL(name, bundlesURL), 'utf8') === built, 'a module has changed: run scripts/bundle');
    assert.doesNotMatch(built, /^\s*(import|export)\b.*["']\./m, 'imports another file');
    assert.equal(built.includes('QrCodeDataType'), built.includes('uqr.LICENSE.txt'), 'the QR code has its licence');
  });
}
