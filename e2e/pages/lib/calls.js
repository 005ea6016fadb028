/** Two-way calls in Chromium, pressed as people do. */

import assert from 'node:assert/strict';
import {Device, sharedLink, waitForPicture, waitForTitle} from './browser.js';

/**
 * @typedef {import('playwright-core').Page} Page
 * @typedef {import('playwright-core').Browser} Browser
 * @typedef {import('playwright-core').BrowserContextOptions} ContextOptions
 */

/** Runs in the page: the browser asks about each device, and the user does not answer. */
export function leaveQuestionsUnanswered() {
  const devices = navigator.mediaDevices;
  if (!devices) return; // the empty page before
  navigator.permissions.query = async () => /** @type {any} */ ({state: 'prompt'});
  /** @type {any} */ (window).questions = [];
  const getUserMedia = devices.getUserMedia.bind(devices);
  devices.getUserMedia = constraints => new Promise(resolve => {
    /** @type {any} */ (window).questions.push(() => resolve(getUserMedia(constraints)));
  });
}

/** Runs in the page: the user answers a question. @param {number} i */
export const answerQuestion = i => /** @type {any} */ (window).questions[i]();

/** Runs in the page: it has no mediaDevices, as in browsers inside other apps. */
export function removeDevices() {
  Object.defineProperty(Navigator.prototype, 'mediaDevices', {get: () => undefined});
}

/** Runs in the page: the user denied camera and microphone. */
export function denyDevices() {
  if (!navigator.mediaDevices) return; // the empty page before
  navigator.permissions.query = async () => /** @type {any} */ ({state: 'denied'});
  navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('denied', 'NotAllowedError'); };
}

/**
 * Opens the call page on two devices, the second with the link that the first shows.
 * @param {Browser} browser
 * @param {string} origin
 * @param {object} [options]
 * @param {ContextOptions} [options.context]
 * @param {(() => void)[]} [options.scripts] run in the page of the second device before its own
 */
export async function openCall(browser, origin, {context = {}, scripts = []} = {}) {
  const [ann, ben] = await Promise.all([Device.create(browser, origin, context), Device.create(browser, origin, context)]);
  for (const script of scripts) await ben.context.addInitScript(script);
  const first = await ann.open('/call.html');
  const link = await sharedLink(first);
  const second = await ben.open(link);
  return {ann, ben, first, second, link};
}

/**
 * Waits until both pages show the moving picture of the other.
 * @param {Page} first
 * @param {Page} second
 */
export async function waitForBothPictures(first, second) {
  await Promise.all([waitForTitle(first, 'Connected'), waitForTitle(second, 'Connected')]);
  await Promise.all([waitForPicture(first), waitForPicture(second)]);
}

/** @param {Page} page @param {string} name */
export async function press(page, name) {
  await page.getByRole('button', {name, exact: true}).click();
}

/**
 * Asserts that elements are completely in the window.
 * @param {Page} page
 * @param {string[]} selectors
 */
export async function assertInView(page, selectors) {
  const {width, height} = page.viewportSize() ?? {width: 0, height: 0};
  for (const selector of selectors) {
    const box = await page.locator(selector).boundingBox();
    const inside = box && box.x >= 0 && box.y >= 0 && box.x + box.width <= width && box.y + box.height <= height;
    assert.ok(inside, `${selector} at ${width}×${height}: ${JSON.stringify(box)}`);
  }
}
