// What the page does beside the probe: it forgets the token, takes the reader's own colours, and says when the visit is
// over. It runs before anything else.
"use strict";

(() => {
    const CHECK_EVERY = 10000; // milliseconds
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const address = new URL(window.location.href);
    let over = false;

    // The cookie knows the visitor now; a token in the address bar would be in every screenshot.
    if (address.searchParams.has("token")) {
        address.searchParams.delete("token");
        window.history.replaceState(null, "", address);
    }

    const say = (sentence, button) => {
        const notice = document.getElementById("notice");
        notice.textContent = sentence;
        if (button) notice.append(button);
    };

    const end = (sentence) => {
        over = true;
        const again = document.createElement("button");
        again.textContent = "Begin anew";
        again.addEventListener("click", () => window.location.reload());
        document.getElementById("rendered_cells").inert = true;
        document.getElementById("loading").hidden = true;
        say(sentence, again);
    };

    const check = async () => {
        const config = document.getElementById("jupyter-config-data");
        if (over || !config) return;
        const { baseUrl, kernelId } = JSON.parse(config.textContent);
        try {
            const answer = await fetch(`${baseUrl}api/kernels/${kernelId}`, { cache: "no-store" });
            if (answer.status === 404) end("This visit has ended: nothing was asked for a while, or it took too much memory.");
            else if (answer.status === 403) end("The server was started anew. Open the address that was given to you again.");
            else if (answer.ok && document.getElementById("notice").dataset.away) {
                delete document.getElementById("notice").dataset.away;
                say("");
            }
        } catch {
            document.getElementById("notice").dataset.away = "yes";
            say("The server does not answer. This page goes on once it does.");
        }
    };

    window.addEventListener("DOMContentLoaded", () => {
        const colour = () => document.body.setAttribute("data-jp-theme-light", String(!dark.matches));
        colour();
        dark.addEventListener("change", colour);
        const cells = document.getElementById("rendered_cells");
        const shown = () => cells.querySelector(".refam-probe, .refam-failed");
        // On a very busy server the widgets may come too late for the page; one more try, and then the reader decides.
        window.setInterval(() => {
            if (over || !cells.textContent.includes("Error displaying widget")) return;
            const tried = window.sessionStorage.getItem("tried");
            window.sessionStorage.setItem("tried", "yes");
            if (tried) end("The server was too busy to begin.");
            else window.location.reload();
        }, 500);
        new MutationObserver((_, observer) => {
            if (!shown()) return;
            document.getElementById("loading").hidden = true;
            window.sessionStorage.removeItem("tried");
            observer.disconnect();
        }).observe(cells, { childList: true, subtree: true });
        if (shown()) document.getElementById("loading").hidden = true;
        window.setInterval(check, CHECK_EVERY);
        document.addEventListener("visibilitychange", () => document.hidden || check());
    });
})();
