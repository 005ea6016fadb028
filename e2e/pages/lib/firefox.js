/**
 * Drives Firefox with a fake camera over WebDriver BiDi. Playwright requires a
 * patched Firefox; BiDi works with the Firefox package of Debian.
 */

import assert from 'node:assert/strict';
import {existsSync} from 'node:fs';
import puppeteer from 'puppeteer-core';
import {decodedFrames, recordConnections} from './browser.js';

export const executablePath = process.env.FIREFOX ?? '/usr/bin/firefox-esr';

const preferences = {
  'media.navigator.streams.fake': true,
  'media.navigator.video.default_fps': 10, // frames are encoded and rendered on the CPU
  'media.navigator.permission.disabled': true,
  'media.autoplay.default': 0,
};
/** ICE needs both preferences if loopback is the only interface. */
const loopbackPreferences = {
  'media.peerconnection.ice.loopback': true,
  'media.peerconnection.ice.obfuscate_host_addresses': false,
};

/** Why the Firefox tests are skipped, or false. In CI they are never skipped. */
export const skip = existsSync(executablePath) || process.env.CI ? false :
  `Firefox not found at ${executablePath}: install it or set FIREFOX`;

/**
 * @param {string} [program] runs the browser
 * @param {number} [debuggingPort] of 127.0.0.1, 0 for any
 */
export function launch(program = executablePath, debuggingPort = 0) {
  const extraPrefsFirefox = {...preferences, ...loopbackPreferences};
  return puppeteer.launch({browser: 'firefox', executablePath: program, headless: true, acceptInsecureCerts: true, debuggingPort, extraPrefsFirefox});
}

/**
 * Launches a browser for a host with a network.
 * @param {string} userDataDir a profile, which has the trusted CAs
 */
export function launchOnHost(userDataDir) {
  return puppeteer.launch({browser: 'firefox', executablePath, headless: true, userDataDir, extraPrefsFirefox: preferences});
}

/**
 * @typedef {import('puppeteer-core').Page} Page
 * @typedef {import('puppeteer-core').Browser} Browser
 */

/**
 * Opens a page and appends its errors to a list.
 * @param {Browser} browser
 * @param {string} url
 * @param {string[]} errors
 * @param {(() => void)[]} [scripts] run in the page before its own
 */
export async function open(browser, url, errors, scripts = []) {
  const page = await browser.newPage();
  page.on('console', message => { if (message.type() === 'error') errors.push(message.text()); });
  page.on('pageerror', error => errors.push(String(error)));
  for (const script of [recordConnections, ...scripts]) await page.evaluateOnNewDocument(script);
  await page.goto(url);
  return page;
}

/** @param {Page} page */
export async function sharedLink(page) {
  const link = await page.waitForFunction(() => document.querySelector('.share-open')?.getAttribute('href'));
  return /** @type {Promise<string>} */ (link.jsonValue());
}

/**
 * Presses start. Firefox denies the camera to a background page.
 * @param {Page} page
 */
export async function pressStart(page) {
  await page.bringToFront();
  await page.locator('button ::-p-text(Start)').click();
}

/**
 * Presses a button of the page in front.
 * @param {Page} page
 * @param {string} selector
 */
export async function press(page, selector) {
  await page.bringToFront();
  await page.locator(selector).click();
}

/**
 * @param {Page} page
 * @param {string} title
 */
export async function waitForTitle(page, title, timeout = 60_000) {
  await page.waitForFunction(want => document.querySelector('.status-title')?.textContent?.includes(want), {timeout}, title)
    .catch(async () => assert.fail(`got the notice «${await page.$eval('.status-title', e => e.textContent)}», want «${title}»`));
}

/**
 * Waits until the newest connection of a page shows moving video, as
 * waitForPicture in browser.js does.
 * @param {Page} page
 */
export async function waitForPicture(page, timeout = 60_000) {
  await page.bringToFront();
  let first = NaN;
  let last = {frames: 0, connection: ''};
  for (const deadline = Date.now() + timeout; Date.now() < deadline;) {
    last = await page.evaluate(decodedFrames);
    if (last.connection === 'connected' && Number.isNaN(first) && last.frames > 0) first = last.frames;
    if (last.frames > first + 5) return;
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  assert.fail(`no moving picture: ${JSON.stringify(last)}`);
}
