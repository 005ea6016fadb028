/** Checks how a page looks: screenshots, accessibility, and what is in view. */

import assert from 'node:assert/strict';
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {fileURLToPath} from 'node:url';

/** @typedef {import('playwright-core').Page} Page */
/** @typedef {'light'|'dark'} ColorScheme */

const shots = fileURLToPath(new URL('../shots/', import.meta.url));
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** A desk, a phone, and a phone held sideways. */
export const sizes = {desk: {width: 1280, height: 800}, phone: {width: 390, height: 844}, sideways: {width: 844, height: 390}};

/**
 * With SCREENSHOTS=1, keeps a screenshot in shots/, for people to look at.
 * @param {Page} page
 * @param {string} name
 */
export async function keepScreenshot(page, name, fullPage = true) {
  if (process.env.SCREENSHOTS) await page.screenshot({path: `${shots}${name}.png`, fullPage});
}

/**
 * Checks a page at all sizes, in both colour schemes.
 * @param {Page} page
 * @param {string} state the name of the screenshots
 * @param {string[]} [inView] selectors of what must be in view, also on a phone held sideways
 * @param {ColorScheme[]} [schemes]
 */
export async function checkLooks(page, state, inView = [], schemes = /** @type {ColorScheme[]} */ (['dark', 'light'])) {
  await page.bringToFront();
  for (const [size, viewport] of Object.entries(sizes)) {
    await page.setViewportSize(viewport);
    await page.evaluate(() => scrollTo(0, 0));
    await assertFits(page, `${state}-${size}`);
    for (const selector of inView) await assertInView(page, selector, `${state}-${size}`);
    for (const colorScheme of schemes) {
      const name = `${state}-${colorScheme}-${size}`;
      await page.emulateMedia({colorScheme});
      await keepScreenshot(page, name, size !== 'sideways');
      // The schemes differ in their colours only, and a phone held sideways has what the other sizes have.
      if (size === 'phone' || size === 'desk' && colorScheme === 'light') await assertAccessible(page, name);
    }
  }
}

/**
 * Fails on serious and critical findings of axe, and on anything outside a landmark.
 * @param {Page} page
 * @param {string} name
 */
export async function assertAccessible(page, name) {
  if (!await page.evaluate(() => 'axe' in window)) await page.evaluate(axe); // evaluate bypasses the Content-Security-Policy
  const {violations} = await page.evaluate(() => /** @type {any} */ (window).axe.run());
  const serious = violations
    .filter((/** @type {any} */ v) => ['serious', 'critical'].includes(v.impact) || /landmark|region|heading/.test(v.id))
    .map((/** @type {any} */ v) => `${v.id}: ${v.nodes.map((/** @type {any} */ n) => n.html).join(' ')}`);
  assert.deepEqual(serious, [], `${name}: accessibility`);
}

/**
 * Fails if a page scrolls horizontally, or if a control is cut off at a side.
 * @param {Page} page
 * @param {string} name
 */
export async function assertFits(page, name) {
  const {content, width, cut} = await page.evaluate(() => {
    const controls = [...document.querySelectorAll('a, button, input, select, h1, h2, .status-title')];
    const outside = controls.filter(control => {
      const box = control.getBoundingClientRect();
      const visible = control.checkVisibility({visibilityProperty: true}) && box.width > 1;
      return visible && (box.left < -1 || box.right > innerWidth + 1) && !control.closest('pre');
    });
    return {content: document.documentElement.scrollWidth, width: innerWidth, cut: outside.map(control => control.outerHTML.slice(0, 120))};
  });
  assert.ok(content <= width, `${name}: the page is ${content} px wide, the window ${width} px`);
  assert.deepEqual(cut, [], `${name}: outside the window`);
}

/**
 * @param {Page} page
 * @param {string} selector
 * @param {string} name
 */
async function assertInView(page, selector, name) {
  const {width, height} = page.viewportSize() ?? {width: 0, height: 0};
  const box = await page.locator(selector).boundingBox();
  const inside = box && box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height;
  assert.ok(inside, `${name}: ${selector} is not in view: ${JSON.stringify(box)}`);
}
