// Roundcube in a real browser: argv is its address, user, password, a directory for
// pictures and downloads, and the browser.
import { chromium } from 'playwright-core';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [address, user, password, artifacts, executablePath] = process.argv.slice(2);
const context = await chromium.launchPersistentContext(join(artifacts, 'profile'), {
    executablePath, headless: true, acceptDownloads: true, viewport: { width: 1280, height: 800 },
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
        '--disable-component-update', '--disable-sync'],
});
const page = await context.newPage();
page.setDefaultTimeout(300000);
const wrong = [];
page.on('pageerror', e => wrong.push(`script: ${e}`));
page.on('response', r => { if (r.status() >= 400) wrong.push(`${r.status()} ${r.url()}`); });
page.on('dialog', d => d.accept());
const picture = name => page.screenshot({ path: join(artifacts, `${name}.png`) });

const row = subject => page.locator('#messagelist tbody tr.message', { hasText: subject });
const count = n => page.waitForFunction(n => [...document.querySelectorAll('#messagelist tbody tr.message')].filter(r => r.offsetParent).length === n, n);
const folder = name => page.locator('#mailboxlist li.mailbox > a', { hasText: name });
const preview = page.frameLocator('#messagecontframe');
const idle = () => page.waitForFunction(() => !window.rcmail.busy && !document.querySelector('#messagestack .loading'));

try {
    await page.goto(address);
    await page.fill('#rcmloginuser', user);
    await page.fill('#rcmloginpwd', password);
    await page.click('#rcmloginsubmit');
    await count(4);
    await picture('list');

    // A message with an umlaut in its subject and a file, which is downloaded.
    await row('Grüße mit Anhang').click();
    await preview.locator('#messagebody', { hasText: 'Im Anhang liegt die Liste, schöne Grüße.' }).waitFor();
    await preview.locator('#attachment-list', { hasText: 'liste.csv' }).waitFor();
    await picture('message');
    await preview.locator('#attachment-list a.dropdown').click();
    const [download] = await Promise.all([page.waitForEvent('download'), preview.locator('#attachmenudownload').click()]);
    assert.equal(readFileSync(await download.path(), 'utf8'), 'a,b,c\n1,2,3\n');
    assert.equal(download.suggestedFilename(), 'liste.csv');

    // Reading marks as read.
    await row('message 2').click();
    await preview.locator('#messagebody', { hasText: 'Body of message 2.' }).waitFor();
    await page.waitForFunction(() => !document.querySelector('#messagelist tr.message.selected.unread'));
    await idle();

    // Searching in subjects, then in the text of a message.
    await page.fill('#mailsearchform', 'message 1');
    await page.press('#mailsearchform', 'Enter');
    await count(1);
    await row('message 1').waitFor();
    await page.click('.searchbar a.button.reset');
    await count(4);
    await page.click('.searchbar a.button.options');
    for (const box of await page.locator('#searchmenu > .formcontent > ul > li > label > input:checked').all()) await box.uncheck({ force: true });
    await page.locator('#searchmenu input[value=body]').check({ force: true });
    await page.fill('#mailsearchform', 'schöne Grüße');
    await page.press('#mailsearchform', 'Enter');
    await count(1);
    await row('Grüße mit Anhang').waitFor();
    await picture('search');
    await page.click('.searchbar a.button.reset');
    await count(4);
    await idle();

    // A folder is made in the settings.
    await page.goto(`${address}?_task=settings&_action=folders`);
    await page.click('#layout-content a.create');
    const form = page.frameLocator('#preferences-frame');
    await form.locator('input[name=_name]').fill('Mühle & Söhne');
    await form.locator('button.submit').click();
    await page.locator('#subscription-table', { hasText: 'Mühle & Söhne' }).waitFor();
    await picture('folders');

    // Flag, move by dragging, delete.
    await page.goto(`${address}?_task=mail&_mbox=INBOX`);
    await count(4);
    await row('message 0').click();
    await preview.locator('#messagebody', { hasText: 'Body of message 0.' }).waitFor();
    await page.click('#layout-content a.markmessage');
    await page.click('#markmessage-menu a.flag:not(.disabled)');
    await page.waitForFunction(() => document.querySelector('#messagelist tr.message.flagged'));
    await idle();
    const from = await row('message 1').boundingBox(), to = await folder('Mühle').boundingBox();
    await page.mouse.move(from.x + 100, from.y + 10);
    await page.mouse.down();
    await page.mouse.move(to.x + 50, to.y + 10, { steps: 20 });
    await picture('drag');
    await page.mouse.up();
    await count(3);
    await idle();
    await row('message 2').click();
    await preview.locator('#messagebody', { hasText: 'Body of message 2.' }).waitFor();
    await page.click('#toolbar-menu a.delete:not(.disabled)');
    await count(2);
    // The next one is shown; a click meanwhile would be for nothing.
    await preview.locator('#messagebody', { hasText: 'Body of message 0.' }).waitFor();
    await idle();
    await folder('Mühle').click();
    await count(1);
    await row('message 1').waitFor();

    // A draft is kept.
    await page.goto(`${address}?_task=mail&_action=compose`);
    await page.fill('#compose-subject', 'Entwurf für später');
    await page.fill('#composebody', 'Noch nicht fertig – später.');
    await page.click('a.save.draft:not(.disabled)');
    await page.locator('#messagestack .confirmation').waitFor();
    await picture('draft');
    await page.goto(`${address}?_task=mail&_mbox=Drafts`);
    await count(1);
    await row('Entwurf für später').waitFor();

    await page.goto(`${address}?_task=mail&_mbox=INBOX`);
    await count(2);
    await picture('end');
    await page.click('a.logout');
    await page.locator('#rcmloginuser').waitFor();
    assert.deepEqual(wrong, []);
    console.log('Roundcube: all right');
} catch (e) {
    await picture('failure');
    console.log(wrong.join('\n'));
    throw e;
} finally {
    await context.close();
}
