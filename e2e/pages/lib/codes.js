/** Joins two pages by short code, as people do. */

import assert from 'node:assert/strict';

/** @typedef {import('playwright-core').Page} Page */

/** Returns the code that a page shows when the user has scrolled to it. @param {Page} page */
export async function shownCode(page) {
  await page.locator('.code-box').scrollIntoViewIfNeeded();
  const code = page.locator('.code-text', {hasText: /^[2-9A-Z]{3} [2-9A-Z]{3}$/});
  await code.waitFor();
  return await code.textContent() ?? '';
}

/** Enters a code with the keyboard. @param {Page} page @param {string} code */
export async function enterCode(page, code) {
  await page.getByLabel('Code of the other device').fill(code);
  await page.keyboard.press('Enter');
}

/** Returns the digits that a page shows. @param {Page} page */
export async function shownDigits(page) {
  const digits = page.locator('.code-digits', {hasText: /^\d{4}$/});
  await digits.waitFor();
  return digits.textContent();
}

/**
 * Joins the room of a page by its code. Both pages are displayed.
 * @param {Page} owner
 * @param {Page} joiner
 */
export async function joinByCode(owner, joiner) {
  await enterCode(joiner, await shownCode(owner));
  assert.equal(await shownDigits(joiner), await shownDigits(owner));
  await joiner.getByRole('button', {name: 'The digits are the same'}).click();
  await owner.getByRole('button', {name: 'Let in'}).click();
}
