/* reader.js - shows the .md pages in place. Without it, or from a folder, the links lead to the plain text.
 * It knows what these pages use: headings, paragraphs, lists, tables, code, links, pictures, bold. */
'use strict';

const page = document.getElementById('page');
const home = page.innerHTML;
const homeTitle = document.title;

const escape = text => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');

const inline = text => text.split(/(`[^`]*`)/).map(part => part.startsWith('`')
    ? `<code>${escape(part.slice(1, -1))}</code>`
    : escape(part).replace(/\*\*([^*]+)\*\*/g, '<b>$1</b>').replace(/!\[([^\]]+)\]\(([^)]+)\)/g, '<img src="$2" alt="$1">')
        .replace(/\[([^\]]+)\]\(([^)]+)\)/g, '<a href="$2">$1</a>')).join('');

const row = (line, cell) => '<tr>' + line.replace(/^\||\|$/g, '').split('|').map(c => `<${cell}>${inline(c.trim())}</${cell}>`).join('') + '</tr>';

function block(text) {
    const lines = text.split('\n');

    if (/^#+ /.test(text)) {
        const level = text.indexOf(' ');
        return `<h${level}>${inline(text.slice(level + 1))}</h${level}>`;
    }
    if (lines.every(line => line.startsWith('    ')))
        return `<pre><code>${escape(lines.map(line => line.slice(4)).join('\n'))}</code></pre>`;
    if (text.startsWith('|'))
        return `<div class="wide"><table>${row(lines[0], 'th')}${lines.slice(2).map(line => row(line, 'td')).join('')}</table></div>`;
    if (text.startsWith('- '))
        return '<ul>' + text.slice(2).split(/\n- /).map(item => `<li>${inline(item)}</li>`).join('') + '</ul>';
    return `<p>${inline(text)}</p>`;
}

const render = markdown => markdown.split(/^```\w*\n([\s\S]*?)^```$/m).map((part, i) => i % 2
    ? `<pre><code>${escape(part)}</code></pre>`
    : part.split(/\n\s*\n/).map(text => text.replace(/^\n+|\s+$/g, '')).filter(Boolean).map(block).join('\n')).join('\n');

/* What a page names lies beside the page, which may be in a folder; .md pages are shown here. */
function resolve(name) {
    const root = new URL('.', location.href.replace(/#.*/, '')).href;

    for (const image of page.querySelectorAll('img'))
        image.src = new URL(image.getAttribute('src'), root + name);
    for (const link of page.querySelectorAll('a')) {
        const target = new URL(link.getAttribute('href'), root + name).href;
        link.href = target.startsWith(root) && target.endsWith('.md') ? '#' + target.slice(root.length) : target;
    }
}

async function show() {
    const name = location.hash.slice(1);

    for (const link of document.querySelectorAll('header nav a'))
        link.ariaCurrent = link.getAttribute('href') === '#' + name ? 'page' : null;
    if (!/^([a-z]+\/)?[\w-]+\.md$/.test(name)) {
        page.innerHTML = home;
        document.title = homeTitle;
    } else {
        const answer = await fetch(name);
        page.innerHTML = answer.ok ? render(await answer.text()) : `<h1>${answer.status}</h1><p>${escape(name)} is not here.</p>`;
        document.title = (page.querySelector('h1') || page).textContent + ' - Sley';
        resolve(name);
    }
    scrollTo(0, 0);
}

if (location.protocol !== 'file:') {
    for (const link of document.querySelectorAll('header nav a'))
        link.setAttribute('href', '#' + link.getAttribute('href'));
    document.querySelector('.mark').setAttribute('href', '#');
    addEventListener('hashchange', show);
    show();
}
