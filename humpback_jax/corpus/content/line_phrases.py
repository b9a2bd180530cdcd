"""Short lines that stand beside an article, and how such lines begin; `short_lines.py` compares them.

Phrases are separated by "|" and written as `phrases.header_words` writes a line.
"""

# Lines that are one of these and nothing else.
WHOLE_LINES: dict[str, str] = {
    "related_links": """
        read more|see more|learn more|find out more|show more|view more|load more|discover more|know more|
        read the full story|read the full article|read full story|read full article|full story|more|see all|view all|
        show all|read next|see also|also read|read also|related|continue reading|continue|weiterlesen|mehr|mehr lesen|
        mehr erfahren|mehr dazu|alle anzeigen|lire la suite|lire plus|lire aussi|en savoir plus|voir plus|voir tout|
        leer más|ver más|ver todo|lea también|leggi tutto|leggi di più|leggi anche|scopri di più|leia mais|
        leia também|saiba mais|ver mais|lees meer|lees verder|lees ook|czytaj więcej|czytaj dalej|więcej|
        zobacz więcej|читать далее|читать полностью|подробнее|читайте также|ещё|baca selengkapnya|selengkapnya|
        baca juga|läs mer|läs också|les mer|læs mere|les også|lue lisää|lue myös|devamı|devamını oku|více|číst dál|
        celý článek|tovább|citește mai mult|περισσότερα|続きを読む|もっと見る|阅读全文|查看更多|更多|더 보기|더보기|
        المزيد|اقرأ المزيد
    """,
    "advertisement": """
        advertisement|advertisements|ad|ads|advertising|ad feedback|sponsored|sponsored content|sponsored links|
        promoted|continue reading below|story continues below|article continues below|
        story continues below advertisement|article continues below advertisement|
        advertisement continue reading below|scroll to continue|scroll for more|anzeige|werbung|publicité|annonce|
        publicidad|anuncio|pubblicità|publicidade|continua após a publicidade|advertentie|reklama|реклама|annons|
        reklame|reklam|iklan|advertisement scroll to continue with content|hirdetés|mainos|広告|スポンサーリンク|广告|
        廣告|광고|quảng cáo|διαφήμιση|إعلان
    """,
    "newsletter": """
        email|e mail|email address|e mail address|your email|your email address|subscribe|subscribe now|sign up|
        sign up now|sign up here|sign up today|register|register now|log in|login|sign in|log in or register|
        abonnieren|jetzt abonnieren|anmelden|registrieren|s abonner|se connecter|suscríbete|suscribirse|
        iniciar sesión|iscriviti|accedi|inscreva se|assine|entrar|aanmelden|inloggen|zaloguj się|подписаться|войти|
        indicates required|required fields|first name|last name|your name|name|thank you for subscribing|
        thanks for subscribing|we respect your privacy|enter your email|enter your email address|unsubscribe|no spam|
        you can unsubscribe at any time|password
    """,
    "comments": """
        comments|comment|no comments|no comments yet|comments are closed|comments closed|leave a comment|
        leave a reply|leave comment|post a comment|post comment|add a comment|add comment|write a comment|
        view comments|show comments|see comments|hide comments|load comments|load more comments|reply|replies|
        be the first to comment|report comment|report abuse|report|flag|like reply|
        please enable javascript to view the comments powered by disqus|kommentare|kommentar|antworten|kommentieren|
        kommentar schreiben|commentaires|commenter|répondre|comentarios|comentar|responder|commenti|commenta|rispondi|
        comentários|reacties|reageer|komentarze|odpowiedz|skomentuj|комментарии|ответить|комментировать|yorumlar|
        yorum yap|kommentarer|kommentera|svar|コメント|返信|评论|回复|댓글|답글|log in to leave a comment|
        log in to reply|sign in to comment|cancel reply|submit comment|your comment
    """,
    "navigation": """
        home|top|next|previous|prev|back|menu|search|close|contents|index|toggle navigation|expand|collapse|show|hide|
        edit|print|play|pause|loading|zoom|print recipe|jump to recipe|pin recipe|rate this recipe|save recipe|weiter|
        zurück|nach oben|suche|menü|suivant|précédent|haut de page|haut|siguiente|anterior|buscar|advanced search|
        show source|edit this page|edit page|edit on github|view source|listen|download|download pdf|download as pdf|
        permalink|link|source|copy|copy link|ok|yes|no|accept|accept all|reject all|reject|decline|submit|send|go|
        cancel|apply|reset|logout|help|faq|contact|contact us|about|about us|privacy|terms|view larger image|
        view gallery|previous article|next article|previous post|next post|newer post|older post|newer posts|
        older posts|newer|older|table of contents|back to top|to top|skip to content|skip to main content|
        start slideshow|watch video|watch|video|photos|gallery|view image in fullscreen|image|edit source|bearbeiten|
        quelltext bearbeiten|modifier|modifier le code|editar|modifica|modifica wikitesto|редактировать|править|
        править код|edytuj|edytuj kod|bewerken|brontekst bewerken|編集|ソースを編集|编辑|编辑源代码|редагувати|
        redigera|redigera wikitext|rediger|rediger kilde|muokkaa|düzenle|kaynağı değiştir|upravit|editovat zdroj|
        szerkesztés|edit edit source|bearbeiten quelltext bearbeiten|modifier modifier le code|править править код|
        from wikipedia the free encyclopedia|add to cart|add to basket|buy now|in den warenkorb|view cart|checkout|
        quantity|article|news|helpful|was this helpful|was this article helpful|did you find this helpful|thank you|
        thanks for your feedback|learn how and when to remove this template message|
        learn how and when to remove this message|use your arrow keys|text size|font size|small medium large|a a a|
        this page|follow|following|favorite|bookmark|add to favorites
    """,
    "byline": """
        reuters|ap|afp|dpa|ani|pti|upi|associated press|the associated press|agence france presse|staff|staff writer|
        staff reporter|staff reports|guest author|guest contributor|editor|admin|anonymous|by|von|von redaktion|
        redaktion|today|yesterday|just now|gestern|heute|hier|aujourd hui|updated|published|posted|last updated
    """,
}

# Lines that begin with one of these, whatever follows.
STARTS: dict[str, str] = {
    "newsletter": """
        to view the full story|to read the full story|to read the full article|subscribe now|first time subscribers|
        already a subscriber|if you re seeing this message|for the latest stories|for the latest news|
        for the latest updates|stay up to date with|do you want to be informed|support independent journalism|
        support our work|sign up for|sign up to|subscribe to|subscribe for|register for our|get our|get the latest|
        get the best|join our|enter your email|enter your name|enter your e mail|thank you for signing|
        thanks for signing|thank you for subscribing|download our app|download the app|get the app|your support|
        please consider donating|support our journalism|receive our|don t miss out|never miss|want more|follow our|
        please confirm|check your inbox|by signing up|by subscribing|by clicking|by submitting|by entering your|
        you are agreeing to|melden sie sich|abonnieren sie|inscrivez vous|abonnez vous|suscríbete a|iscriviti alla|
        inscreva se|schrijf je in|подпишитесь на|подписывайтесь на|log in to|sign in to|login to
    """,
    "share_bar": """
        share this|share on|share via|share with|follow us|follow me on|find us on|like us on|join us on|
        connect with us|click to share|click to email|click to print|click here to share|tweet this|email this|
        teilen auf|teilen mit|partager sur|partager cet|compartir en|condividi su|compartilhe no|поделиться в|
        opens in new window|folgen sie uns|suivez nous|síguenos en|seguici su|siga nos|volg ons|bagikan
    """,
    "comments": """
        please share your|please comment|let us know in the comments|let me know in the comments|
        leave a comment below|tell us in the comments|what do you think let us|have your say|log in to leave|
        log in to post|log in to reply|log in to comment|sign in to leave|sign in to comment|you must be logged|
        you must log in|comments are|comments have been|comments will be|comments powered by|view all comments|
        reply to|be the first to|your email address will not be|save my name email|notify me of|
        this site uses akismet|filed under comments|please log in to|please sign in to|please login to|
        deine e mail adresse wird|votre adresse e mail|votre adresse de messagerie|tu dirección de correo|
        il tuo indirizzo email|o seu endereço|je e mailadres wordt|ваш адрес email|ваш e mail не
    """,
    "related_links": """
        more from|more in|more stories|more news|more about the author|view all posts|see all posts|see more stories|
        read all posts|all posts by|browse all|you may also like|you might also like|lesen sie auch|lesen sie hierzu|
        lesen sie mehr|lire aussi|à lire aussi|lea también|te puede interesar|leggi anche|leia também|veja também|
        lees ook|czytaj też|czytaj także|czytaj również|zobacz także|zobacz też|читайте также|baca juga|läs också|
        läs även|les også|læs også|lue myös|click here to read|click here for more|for more information about this
    """,
    "advertisement": """
        this post contains references to|the content on this page is|opinions expressed here are|
        advertisement story continues|story continues after|article continues after|this post contains affiliate|
        this article contains affiliate|this page contains affiliate|this post may contain|this article may contain|
        we may earn|we may receive|as an amazon associate|this site is a participant|disclosure this|
        disclaimer this post|this is a sponsored|this post is sponsored|when you buy through|if you buy through|
        affiliate links|purchases made through|dieser artikel enthält affiliate|dieser beitrag enthält werbung|
        als amazon partner
    """,
    "navigation": """
        skip to content|skip to main|skip to navigation|jump to|back to top|return to top|return to the|go to top|
        zurück zu|zurück zur|retour à|retour au|volver a|click here to view|click on the image|click to enlarge|
        click image to|you are here|your browser does not|your browser is|please enable javascript|javascript must|
        you need to enable javascript|listen to this|viewing page|showing results|sie sind hier|vous êtes ici|
        estás aquí|move to sidebar|toggle the table|add languages|main article|this article is about|for other uses|
        not to be confused|this article needs|this section needs|this article has multiple issues|
        this section does not cite|coordinates
    """,
    "footer": """
        copyright|all rights reserved|alle rechte vorbehalten|tous droits réservés|todos los derechos|tutti i diritti|
        todos os direitos|все права|powered by|this site is protected by|last modified on|page last updated|
        this page was last|last edited|proudly powered|theme by|designed by|site by|generated by|
        content is available under|text is available under|this material may not be|the material on this site|
        use of this site constitutes|reproduction of material|this page was generated|built with|hosted by|
        read the docs
    """,
    "cookie_notice": """
        we use cookies|this site uses cookies|this website uses cookies|our site uses cookies|
        our website uses cookies|wir verwenden cookies|diese website verwendet|diese webseite verwendet|
        diese seite verwendet cookies|ce site utilise des|nous utilisons des cookies|este sitio utiliza|
        este sitio usa|esta web utiliza|utilizamos cookies|questo sito utilizza|este site utiliza|este site usa|
        wij gebruiken cookies|ta strona używa|ta strona korzysta|мы используем|этот сайт использует|
        accept all cookies|by continuing to use|by using this site|by using our site|we and our partners|
        manage cookies|vi använder cookies|vi bruger cookies
    """,
    "byline": """
        posted by|posted on|posted at|posted in|published by|published on|published at|written by|reviewed by|
        medically reviewed|fact checked|last updated|updated on|updated at|first published|originally published|
        story by|text by|words by|photos by|photography by|reporting by|additional reporting|edited by|editing by|
        contributed by|submitted by|submitted on|veröffentlicht am|veröffentlicht von|aktualisiert am|
        zuletzt aktualisiert|erstellt am|geschrieben von|publié le|publié par|mis à jour le|par la rédaction|
        publicado el|publicado por|publicado em|actualizado el|atualizado em|escrito por|pubblicato il|aggiornato il|
        scritto da|geplaatst op|geplaatst door|gepubliceerd op|opublikowano|data publikacji|опубликовано|автор|
        обновлено|reading time|estimated reading time|read time|lesezeit|temps de lecture|tiempo de lectura|
        tempo di lettura|tempo de leitura|leestijd|dipublikasikan|diterbitkan|publicerad|uppdaterad|publisert|
        oppdatert|udgivet|julkaistu|päivitetty|this article was originally|this post was originally|
        this story was originally|this article originally appeared|this article was updated|a version of this article|
        this article appeared in|the views expressed|the opinions expressed|views expressed are|contact the author|
        contact the reporter|follow him on|follow her on|follow the author|email the author|has contributed to
    """,
}

# Words before a colon.
LABELS: dict[str, str] = {
    "related_links": """
        read more|see also|also read|read also|related|related article|related articles|related story|related stories|
        more on this|read next|don t miss|recommended|must read|also see|more|watch|video|related video|read|see|
        siehe auch|mehr zum thema|mehr dazu|auch interessant|voir aussi|sur le même sujet|ver también|leer también|
        lea más|relacionado|relacionada|zobacz również|przeczytaj także|по теме|смотрите также|zie ook|meer lezen|
        se även|se også|se mer|関連記事|関連|相关阅读|相关|previous|next|previous article|next article|previous post|
        next post|vorheriger artikel|nächster artikel
    """,
    "caption": """
        photo|photos|photograph|image|images|picture|pic|credit|illustration|foto|fotos|bild|bilder|crédit|
        crédit photo|photo credit|image credit|image source|photo source|file photo|photo courtesy|image courtesy|
        bildquelle|bildnachweis|imagen|immagine|quelle|graphic|graphics|caption|featured image|cover photo|
        cover image|header image|фото|источник|zdjęcie|fot|zdroj|kuva|kép|kilde|写真|图片|图片来源|圖片來源|사진|
        symbolbild|photography|image by|photo by|media caption|image caption
    """,
    "tags": """
        tags|tag|tagged|tagged with|filed under|filed in|posted in|category|categories|topics|topic|keywords|
        key words|labels|label|schlagwörter|schlagworte|themen|kategorie|kategorien|mots clés|étiquettes|catégories|
        etiquetas|categorías|palabras clave|temas|parole chiave|tag correlati|marcadores|categorias|теги|тэги|метки|
        рубрика|рубрики|категория|tagi|trefwoorden|categorieën|related topics|in this article|
        mentioned in this article|more about|ämnen|etiketter|emneord|avainsanat|etiketler|štítky|címkék|etichete|タグ|
        カテゴリー|标签|分类|关键词|태그|topik|cuisine|course|keyword
    """,
    "byline": """
        by|author|authors|autor|autorin|auteur|autore|автор|text|von|par|por|writer|editor|penulis|reporter|date|
        published|updated|posted|last updated|last modified|created|modified|date published|date modified|
        publication date|release date|stand|datum|veröffentlicht|aktualisiert|publié|fecha|data|дата|contact|source|
        posts|joined|location|views|hits|reads|downloads|member since|original source|via|h t|hat tip|written by|
        rating|reviewed by|prep time|cook time|total time|print length
    """,
    "newsletter": """
        email|e mail|phone|website|your name|your email|password|subscribe|sign up
    """,
    "comments": """
        comments|comment|kommentare|commentaires|comentarios|commenti|reacties|комментарии|reply|leave a comment
    """,
    "share_bar": """
        share|share this|share on|share this article|follow|follow us|teilen|partager|compartir|condividi|поделиться
    """,
    "footer": """
        copyright|contact us|address|tel|telephone|fax
    """,
}

# Share bars are made of these and numbers, and of nothing else.
SHARE_WORDS = """
    share tweet pin email e-mail mail print like save copy send post reply bookmark follow facebook twitter x
    whatsapp linkedin pinterest reddit telegram tumblr flipboard messenger instagram youtube rss sms viber vkontakte
    vk xing threads bluesky mastodon snapchat tiktok pocket line weibo wechat google google+ teilen drucken merken
    mailen twittern partager imprimer envoyer tweeter compartir imprimir enviar tuitear condividi stampa compartilhar
    delen deel udostępnij поделиться bagikan dela del paylaş sdílet článek shares likes views retweets followers
    claps comments comment more on this via with to by it us link url plus the page article story icon logo button
    subscribe k
"""

# Lines made of dates and these say when something was written.
MONTHS = """
    jan feb mar apr may jun jul aug sep sept oct nov dec january february march april june july august september
    october november december januar februar märz mai juni juli oktober dezember dez okt janvier février mars avril
    juin juillet août septembre octobre novembre décembre janv févr juil déc enero febrero marzo abril mayo junio
    julio agosto septiembre octubre noviembre diciembre ene abr ago dic gennaio febbraio aprile maggio giugno luglio
    settembre ottobre dicembre gen mag giu lug set ott janeiro fevereiro março maio junho julho setembro outubro
    novembro dezembro fev out januari februari maart mei augustus mrt stycznia lutego marca kwietnia maja czerwca
    lipca sierpnia września października listopada grudnia января февраля марта апреля мая июня июля августа сентября
    октября ноября декабря янв фев мар апр июн июл авг сен окт ноя дек ocak şubat mart nisan mayıs haziran temmuz
    ağustos eylül ekim kasım aralık maj augusti agustus desember maret tammikuuta
"""

WEEKDAYS = """
    mon tue tues wed thu thur thurs fri sat sun monday tuesday wednesday thursday friday saturday sunday montag
    dienstag mittwoch donnerstag freitag samstag sonnabend sonntag mo di mi do fr sa so lundi mardi mercredi jeudi
    vendredi samedi dimanche lunes martes miércoles jueves viernes sábado domingo lunedì martedì mercoledì giovedì
    venerdì sabato domenica segunda terça quarta quinta sexta feira maandag dinsdag woensdag donderdag vrijdag
    zaterdag zondag понедельник вторник среда четверг пятница суббота воскресенье senin selasa rabu kamis jumat sabtu
    minggu måndag tisdag onsdag torsdag fredag lördag söndag mandag tirsdag lørdag søndag
"""

TIME_WORDS = """
    published updated posted created modified edited reviewed uploaded first last date on at by am pm a.m p.m
    um uhr à le el
    il den de of del o в г год gmt utc est edt et pst pdt pt cet cest ist bst ct cst cdt wib a min mins minute
    minutes read hours hour hrs hr days day weeks week months month years year ago vor tagen stunden minuten hace
    veröffentlicht aktualisiert zuletzt erstellt stand publié mis jour publicado actualizado atualizado em pubblicato
    aggiornato gepubliceerd op опубликовано обновлено reading time lesezeit lecture th st nd rd h m and kl klo the y
    jours heures mois ans días horas views view shares comments comment před minutami hodinami hodinou minutou dny
    назад часов минут дней
"""

# Words before the name of a writer, and words between names.
BEFORE_WRITERS = """
    by von par por da di door autor author auteur автор av af text foto penulis oleh redaktion yazan
"""
BETWEEN_NAMES = """
    and und et y e en i и the for of de la van der den di al bin jr sr dr with special to in at mit
"""
# Where pictures come from.
PICTURE_SOURCES = """
    getty reuters shutterstock istock istockphoto unsplash flickr pixabay pexels alamy afp dpa ap epa imago
    picture-alliance wikimedia depositphotos adobestock bigstock thinkstock
"""
# "12 comments", "page 3 of 7", "4.5 out of 5 stars".
COUNTED = {
    "comments": """
        comments comment replies reply responses kommentare kommentar commentaires comentarios commenti comentários
        reacties комментариев комментария комментарий komentarzy yorum kommentarer
    """,
    "navigation": """
        page of seite von sur de out posts photos slide image images items item
    """,
    "reviews": """
        from votes vote ratings rating stars star reviews review points average
    """,
}
# "Jane Doe says:"
SAYS = """
    says said schreibt schrieb sagt dice dit wrote
"""
