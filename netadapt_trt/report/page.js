"use strict";
// Draws every figure with the page's own colours, and again when the reader's colour scheme changes, the
// window is resized or the page is printed.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);

  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    return (name) => style.getPropertyValue("--" + name).trim();
  };

  // "@name" stands for the style sheet's --name; texts never start with "@" because they start with markup or words of ours.
  const painted = (value, colour) => {
    if (typeof value === "string") return /^@[a-z0-9]+$/.test(value) ? colour(value.slice(1)) : value;
    if (Array.isArray(value)) return value.map((inner) => painted(inner, colour));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, painted(inner, colour)]));
    }
    return value;
  };

  const draw = () => {
    const colour = colours();
    return Promise.all(
      Object.entries(figures).map(([key, figure]) => {
        const { data, layout } = painted(figure, colour);
        // The size is given, not left to Plotly's own resizing: that one waits, and a page being printed does not.
        const box = document.getElementById(key);
        const size = { width: box.clientWidth, height: box.clientHeight, autosize: false };
        return Plotly.react(box, data, { ...layout, ...size }, { displayModeBar: false, doubleClick: false, showTips: false });
      })
    );
  };

  draw().then(() => document.documentElement.setAttribute("data-drawn", String(Object.keys(figures).length)));
  let waiting = 0;
  addEventListener("resize", () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(draw);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", () => {
    document.documentElement.setAttribute("data-print", "");
    draw();
  });
  addEventListener("afterprint", () => {
    document.documentElement.removeAttribute("data-print");
    draw();
  });
})();
