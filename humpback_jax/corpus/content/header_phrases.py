"""Headers that introduce page furniture, whole and in many languages; `phrases.py` says how they are compared.

Lower case, without punctuation, as `phrases.header_words` writes a header.
"""

HEADER_PHRASES: dict[str, str] = {
    "related_links": """
        related|related articles|related posts|related stories|related content|related news|related links|
        related topics|related reading|related coverage|related pages|related items|related products|
        related questions|related searches|read more|read next|read also|also read|more|more news|more stories|
        more articles|more posts|more reading|more like this|more on this story|more on this topic|more information|
        most read|most popular|most viewed|most shared|most recent|most commented|popular posts|popular articles|
        popular stories|popular|popular now|popular topics|popular news|trending|trending now|trending news|
        trending stories|trending topics|latest|latest news|latest stories|latest posts|latest articles|
        latest headlines|latest videos|breaking news|recent|recent posts|recent articles|recent news|recent stories|
        recent entries|recent comments|recommended|recommended reading|recommended for you|recommended stories|
        recommendations|you may also like|you might also like|you may like|you might like|you might also enjoy|
        you may also enjoy|see also|top stories|top news|top posts|todays top stories|dont miss|dont miss this|
        dont miss it|what to read next|what to watch|also on|also in this|also of interest|elsewhere|
        elsewhere on the web|from around the web|around the web|from the web|from our network|from our partners|
        from our sponsors|promoted stories|promoted content|editors picks|editors choice|editors pick|keep reading|
        up next|next up|next article|previous article|next post|previous post|similar articles|similar posts|
        similar stories|similar products|customers also bought|customers also viewed|people also ask|
        people also viewed|other stories|other recent stories|other articles|other news|other posts|
        other recent posts|in other news|in case you missed it|featured|featured articles|featured posts|
        featured stories|featured videos|featured content|hot topics|whats hot|highlights|headlines|news|video|videos|
        multimedia|photos|galleries|photo galleries|columnists|features|opinion|stocks to watch|in this section|
        ähnliche artikel|ähnliche beiträge|ähnliche themen|ähnliche produkte|verwandte artikel|verwandte beiträge|
        verwandte themen|das könnte sie auch interessieren|das könnte dich auch interessieren|
        das könnte ihnen auch gefallen|dies könnte sie auch interessieren|auch interessant|mehr zum thema|
        mehr zu diesem thema|zum thema|themen|weitere artikel|weitere beiträge|weitere themen|weitere nachrichten|
        weitere meldungen|meistgelesen|meistgelesene artikel|meist gelesen|beliebte artikel|beliebte beiträge|
        neueste beiträge|neueste artikel|neueste kommentare|aktuelle beiträge|aktuelle artikel|aktuelle nachrichten|
        aktuelles|aktuell|lesen sie auch|lesen sie mehr|lesen sie hierzu auch|lesetipps|weiterlesen|empfehlungen|
        empfohlene artikel|siehe auch|mehr davon|mehr von|top themen|im fokus|links zum thema|letzte beiträge|
        nächster artikel|vorheriger artikel|articles similaires|articles liés|articles connexes|articles récents|
        à lire aussi|a lire aussi|à lire également|lire aussi|lire la suite|voir aussi|sur le même sujet|
        sur le même thème|dans la même rubrique|les plus lus|les plus populaires|à découvrir|à ne pas manquer|
        vous aimerez aussi|plus d articles|derniers articles|dernières actualités|artículos relacionados|
        noticias relacionadas|entradas relacionadas|te puede interesar|te puede gustar|te recomendamos|
        también te puede interesar|le puede interesar|lo más leído|lo más visto|más leídas|más noticias|
        más información|ver también|véase también|lea también|leer más|entradas recientes|últimas noticias|
        entradas populares|otras noticias|noticias|articoli correlati|articoli recenti|articoli simili|leggi anche|
        leggi tutto|potrebbe interessarti|potrebbe interessarti anche|potrebbero interessarti|ti potrebbe interessare|
        voci correlate|i più letti|ultime notizie|artigos relacionados|posts relacionados|notícias relacionadas|
        leia também|leia mais|veja também|ver também|mais lidas|mais notícias|últimas notícias|recomendados|
        matérias relacionadas|gerelateerde artikelen|gerelateerde berichten|gerelateerd|lees ook|lees meer|
        lees verder|meer over|meer nieuws|meest gelezen|zie ook|recente berichten|czytaj także|czytaj też|
        czytaj również|czytaj więcej|zobacz także|zobacz też|zobacz również|podobne artykuły|podobne wpisy|
        powiązane artykuły|powiązane|polecane|najczęściej czytane|najnowsze|ostatnie wpisy|przeczytaj także|
        материалы по теме|статьи по теме|новости по теме|по теме|читайте также|читать также|читать далее|
        смотрите также|см также|похожие статьи|похожие записи|похожие материалы|похожие|популярное|популярные статьи|
        популярные записи|свежие записи|последние новости|новости|другие новости|ещё по теме|рекомендуем|
        самое читаемое|вам может понравиться|вам также может понравиться|читайте також|схожі статті|схожі записи|
        за темою|останні новини|див також|популярні статті|матеріали за темою|ilgili haberler|ilgili yazılar|
        ilgili konular|benzer haberler|benzer yazılar|benzer konular|son yazılar|son haberler|çok okunanlar|
        bunları da beğenebilirsiniz|bunlar da ilginizi çekebilir|関連記事|関連リンク|関連項目|おすすめ記事|おすすめ|
        人気記事|新着記事|最新記事|最近の投稿|あわせて読みたい|こちらもおすすめ|ランキング|関連ニュース|相关文章|
        相关阅读|相关新闻|相关链接|相关推荐|推荐阅读|热门文章|热门新闻|最新文章|近期文章|猜你喜欢|延伸阅读|延伸閱讀|
        相關文章|相關新聞|熱門文章|最新消息|推薦閱讀|你可能感兴趣|参见|관련 기사|관련기사|관련 글|관련글|인기 기사|
        인기 글|최신 글|최근 글|추천 기사|많이 본 뉴스|같이 보기|läs också|läs även|läs mer|läs vidare|mer om|
        relaterade artiklar|relaterat|senaste nytt|senaste inläggen|mest läst|se även|les også|relaterte artikler|
        siste nytt|siste innlegg|mest lest|se også|læs også|relaterede artikler|seneste nyt|mest læste|lue myös|
        lisää aiheesta|luetuimmat|uusimmat|katso myös|související články|mohlo by vás zajímat|čtěte také|čtěte dále|
        nejčtenější|podobné články|súvisiace články|mohlo by vás zaujímať|prečítajte si aj|aktuálne|aktuálně|
        najčítanejšie|kapcsolódó cikkek|kapcsolódó bejegyzések|ez is érdekelheti|olvasd el ezt is|legolvasottabb|
        legfrissebb|articole similare|articole recente|citește și|citeşte şi|vezi și|s ar putea să ți placă|
        cele mai citite|σχετικά άρθρα|σχετικά|διαβάστε επίσησ|διαβάστε ακόμα|δείτε επίσησ|δημοφιλή|τελευταία νέα|
        πρόσφατα άρθρα|مواضيع ذات صلة|مقالات ذات صلة|أخبار ذات صلة|اقرأ أيضا|اقرأ أيضاً|قد يعجبك أيضا|الأكثر قراءة|
        آخر الأخبار|أحدث المقالات|مقالات مشابهة|انظر أيضا|artikel terkait|berita terkait|baca juga|artikel lainnya|
        berita lainnya|terpopuler|terkini|postingan populer|artikel populer|lihat juga|pos terbaru|bài viết liên quan|
        tin liên quan|xem thêm|bài viết mới|có thể bạn quan tâm|tin mới|xem nhiều|संबंधित खबरें|संबंधित लेख|
        यह भी पढ़ें|ये भी पढ़ें|ताज़ा खबरें|ताजा खबरें|बड़ी खबरें|כתבות נוספות|מאמרים קשורים|קראו גם|اخبار مرتبط|
        مطالب مرتبط|بیشتر بخوانید|آخرین اخبار|povezani članci|povezane vijesti|pročitajte još|pročitaj još|
        сродни статии|свързани статии|още по темата|прочетете още|повезани чланци|vezani članki|sorodni članki|
        preberite še
    """,
    "comments": """
        comments|comment|reader comments|leave a reply|leave a comment|leave a response|leave your comment|
        post a comment|post a reply|post comment|post your comment|add a comment|add comment|add your comment|
        write a comment|submit a comment|write a review|replies|responses|discussion|discuss|join the conversation|
        join the discussion|have your say|what do you think|cancel reply|reply|your comment|comments are closed|
        comments closed|comment on this|facebook comments|conversation|start the conversation|showing comments|
        top comments|user comments|trackbacks|pingbacks|comment policy|you must be logged in to post a comment|
        kommentare|kommentar|kommentar verfassen|kommentar schreiben|kommentar hinterlassen|kommentar abgeben|
        schreibe einen kommentar|schreiben sie einen kommentar|schreiben sie den ersten kommentar|
        hinterlasse einen kommentar|hinterlasse eine antwort|einen kommentar schreiben|diskutieren sie mit|
        ihre meinung|ihr kommentar|ihre meinung zum thema|leserkommentare|antwort hinterlassen|antworten|diskussion|
        deine meinung|neuer kommentar|artikel kommentieren|commentaires|commentaire|laisser un commentaire|
        laisser une réponse|laissez un commentaire|ajouter un commentaire|poster un commentaire|votre commentaire|
        réagir|réactions|vos réactions|vos commentaires|écrire un commentaire|comentarios|comentario|
        deja un comentario|dejar un comentario|deja una respuesta|dejar una respuesta|escribe un comentario|
        publicar un comentario|añadir comentario|tu comentario|comenta|comentar|opiniones|commenti|commento|
        lascia un commento|lascia una risposta|rispondi|scrivi un commento|aggiungi un commento|inserisci un commento|
        comentários|comentário|deixe um comentário|deixe uma resposta|deixe seu comentário|deixe o seu comentário|
        comente|adicionar comentário|enviar comentário|reacties|reactie|geef een reactie|laat een reactie achter|
        plaats een reactie|reageer|komentarze|komentarz|dodaj komentarz|skomentuj|napisz komentarz|zostaw komentarz|
        komentarz do artykułu|комментарии|комментарий|оставить комментарий|добавить комментарий|оставьте комментарий|
        написать комментарий|обсуждение|отзывы|ваш комментарий|коментарі|залишити коментар|додати коментар|коментари|
        остави коментар|напиши коментар|добави коментар|komentar|tinggalkan balasan|tinggalkan komentar|beri komentar|
        tulis komentar|bình luận|ý kiến bạn đọc|để lại bình luận|コメント|コメントを残す|コメントする|コメントを書く|
        この記事へのコメント|评论|发表评论|发表回复|网友评论|我要评论|留言|發表評論|發佈留言|發表迴響|回應|댓글|
        댓글 남기기|의견 남기기|kommentarer|lämna ett svar|lämna en kommentar|skriv en kommentar|kommentera|
        legg igjen en kommentar|legg igjen et svar|skriv et svar|kommenter|kommentit|jätä kommentti|vastaa|yorumlar|
        yorum yap|bir yorum yapın|bir cevap yazın|yorum yaz|komentáře|přidat komentář|napsat komentář|diskuse|diskuze|
        komentáre|pridať komentár|diskusia|hozzászólások|hozzászólás|szólj hozzá|vélemény hozzászólás|comentarii|
        lasă un comentariu|lasă un răspuns|adaugă un comentariu|σχόλια|αφήστε ένα σχόλιο|αφήστε μια απάντηση|
        σχολιάστε|تعليقات|التعليقات|اترك تعليقا|اترك تعليقاً|أضف تعليق|اترك ردا|תגובות|השאר תגובה|כתיבת תגובה|
        دیدگاه ها|ارسال نظر|نظرات|टिप्पणियाँ|टिप्पणी करें|अपनी टिप्पणी|komentari|ostavite komentar|odgovori|
        komentiraj|napiši komentar|ostavi odgovor
    """,
    "reviews": """
        customer reviews|reviews|user reviews|reader reviews|product reviews|customer ratings|ratings and reviews|
        reviews and ratings|ratings reviews|guest reviews|what our customers say|testimonials|customer questions|
        questions and answers from customers|kundenbewertungen|kundenrezensionen|bewertungen|kundenmeinungen|
        avis clients|avis des clients|avis|opiniones de clientes|valoraciones|reseñas|recensioni|recensioni clienti|
        avaliações|avaliações de clientes|beoordelingen|klantbeoordelingen|opinie klientów|opinie|отзывы покупателей|
        カスタマーレビュー|レビュー|用户评价|商品评价|고객 리뷰|리뷰|kundomdömen|kundeanmeldelser|müşteri yorumları|
        hodnocení
    """,
    "share_bar": """
        share|share this|share this article|share this story|share this post|share this page|share on|
        share on social media|share with friends|share it|share via|social share|sharing is caring|spread the word|
        share the love|tell your friends|email this|print this|follow us|follow|follow us on|connect with us|
        stay connected|connect|find us on|social media|social|like us on facebook|follow us on twitter|
        follow us on facebook|get in touch|join us on|keep in touch|on social media|teilen|artikel teilen|
        beitrag teilen|diesen artikel teilen|teilen mit|teilen sie diesen artikel|teile diesen beitrag|folgen sie uns|
        folge uns|soziale medien|soziale netzwerke|weitersagen|partager|partagez|partager cet article|partager sur|
        suivez nous|nous suivre|compartir|compártelo|comparte|compartir en|comparte esto|síguenos|siga nos|
        redes sociales|condividi|condividi su|condividi questo articolo|seguici|seguici su|compartilhe|compartilhar|
        compartilhe isso|partilhar|siga nos nas redes sociais|redes sociais|delen|deel dit|deel dit artikel|
        deel dit bericht|volg ons|udostępnij|podziel się|obserwuj nas|поделиться|поделиться ссылкой|
        поделиться в соцсетях|поделитесь|мы в соцсетях|подписывайтесь на нас|поділитися|bagikan|bagikan ini|
        ikuti kami|chia sẻ|シェア|シェアする|共有|フォローする|分享|分享到|分享至|关注我们|공유하기|공유|dela|
        dela artikeln|följ oss|del|del artikkelen|følg oss|følg os|jaa|jaa artikkeli|paylaş|bizi takip edin|sdílet|
        sledujte nás|zdieľať|megosztás|distribuie|κοινοποίηση|ακολουθήστε μασ|شارك|شارك هذا|مشاركة|تابعنا|שתפו|
        podijeli|сподели
    """,
    "newsletter": """
        newsletter|free newsletter|newsletters|our newsletter|subscribe|subscribe now|subscribe to our newsletter|
        subscribe to|subscribe via email|subscribe by email|sign up|sign up now|sign up for our newsletter|
        get our newsletter|join our newsletter|newsletter signup|newsletter sign up|email newsletter|stay updated|
        stay informed|stay in the loop|stay up to date|stay in touch|get updates|email updates|email address|
        join our mailing list|mailing list|never miss a post|never miss a story|follow blog via email|get the latest|
        get the latest news|download the app|get the app|download our app|thank you for subscribing|
        thanks for signing up|thank you for signing in|thank you for signing up|daily newsletter|weekly newsletter|
        follow by email|get involved|join us|support us|donate|make a donation|become a member|newsletter abonnieren|
        newsletter anmeldung|jetzt abonnieren|abonnieren|anmelden|bleiben sie informiert|unser newsletter|
        kostenloser newsletter|s abonner|abonnez vous|inscrivez vous à la newsletter|inscription à la newsletter|
        restez informé|recevez notre newsletter|suscríbete|suscribirse|suscripción|boletín|
        suscríbete a nuestro boletín|recibe nuestras noticias|iscriviti|iscriviti alla newsletter|
        iscriviti alla nostra newsletter|inscreva se|assine|assine nossa newsletter|receba nossas novidades|
        nieuwsbrief|schrijf je in|aanmelden|meld je aan voor de nieuwsbrief|zapisz się|zapisz się do newslettera|
        подписаться|подписка|подпишитесь на рассылку|рассылка|berlangganan|メールマガジン|メルマガ登録|订阅|訂閱|
        구독하기|prenumerera|nyhetsbrev|nyhedsbrev|tilaa uutiskirje|bülten|abone ol|odběr novinek|hírlevél|
        feliratkozás|abonează te|النشرة البريدية|اشترك
    """,
    "cookie_notice": """
        we value your privacy|your privacy|your privacy matters|privacy preferences|privacy preference center|
        privacy settings|privacy overview|privacy policy|privacy notice|privacy|manage consent|
        manage consent preferences|manage your privacy|manage cookies|cookies|cookie policy|cookie settings|
        cookie preferences|cookie notice|cookie consent|this site uses cookies|this website uses cookies|
        we use cookies|our use of cookies|about cookies|use of cookies|your choices|your privacy choices|
        strictly necessary cookies|functional cookies|performance cookies|targeting cookies|advertiser disclosure|
        affiliate disclosure|disclosure|disclaimer|wir verwenden cookies|diese website verwendet cookies|
        diese webseite verwendet cookies|diese seite verwendet cookies|datenschutz|datenschutzerklärung|
        datenschutzeinstellungen|privatsphäre|privatsphäre einstellungen|cookie einstellungen|
        nous respectons votre vie privée|vie privée|gestion des cookies|ce site utilise des cookies|
        paramètres des cookies|politique de confidentialité|uso de cookies|utilizamos cookies|política de cookies|
        política de privacidad|tu privacidad|su privacidad|valoramos tu privacidad|rispettiamo la tua privacy|
        informativa|utilizziamo i cookie|uso dei cookie|privacidade|nós usamos cookies|política de privacidade|
        wij gebruiken cookies|uw privacy|szanujemy twoją prywatność|polityka prywatności|ta strona używa cookies|
        мы используем cookie|файлы cookie|политика конфиденциальности|cookieの使用|隐私政策|使用cookie|
        개인정보처리방침|vi använder cookies|vi bruger cookies|vi bruker informasjonskapsler|çerez politikası
    """,
    "author_box": """
        about the author|about the authors|about author|about this author|author|authors|the author|meet the author|
        written by|posted by|more from author|more from this author|author bio|about the writer|contributors|
        contributor|latest posts by|about me|about us|about|who we are|our team|contact|contact us|editor|
        reporting by|view all posts|über den autor|über die autorin|über die autoren|über den verfasser|autor|autoren|
        zum autor|zur autorin|zur person|der autor|die autorin|über uns|über mich|kontakt|à propos de l auteur|
        à propos|l auteur|auteur|auteurs|qui sommes nous|nous contacter|sobre el autor|acerca del autor|
        sobre la autora|autores|quiénes somos|acerca de|contacto|sull autore|l autore|informazioni sull autore|
        chi siamo|contatti|sobre o autor|sobre a autora|sobre nós|quem somos|contato|over de auteur|over ons|
        o autorze|o nas|об авторе|автор|авторы|о нас|контакты|про автора|tentang penulis|tentang kami|về tác giả|
        著者について|この記事を書いた人|著者|执笔者|作者简介|关于作者|关于我们|글쓴이|저자 소개|om författaren|
        om forfatteren|om oss|om os|yazar hakkında|hakkımızda|o autorovi|o nás|a szerzőről|despre autor|
        σχετικά με τον συγγραφέα|عن الكاتب|نبذة عن الكاتب|من نحن|o autoru
    """,
    "navigation": """
        menu|main menu|navigation|main navigation|site navigation|secondary navigation|post navigation|
        posts navigation|navigation menu|table of contents|contents|on this page|in this article|in this page|
        this page|page contents|quick links|quick link|site map|sitemap|categories|category|tags|tag|tag cloud|
        archives|archive|blog archive|topics|topic|search|search form|languages|language|previous topic|next topic|
        previous|next|browse|browse here|browse by|sections|section|pages|page|meta|blogroll|links|useful links|
        external sites|calendar|home|index|forum|forums|login|log in|sign in|register|my account|account|
        shopping cart|cart|user menu|personal tools|views|tools|print export|in other languages|in other projects|
        channels|regions|follow topics|filed under|posted in|tagged|statistics|jump to|go to|skip to content|
        site info|company|company information|legal|terms of use|terms of service|terms and conditions|copyright|help|
        support|resources|services|products|more about us|site footer|footer|header|sidebar|primary sidebar|
        footer menu|user login|who s online|partners|our partners|sponsors|our sponsors|download|downloads|
        customer service|information|kategorien|kategorie|schlagwörter|schlagworte|archiv|suche|suchen|inhalt|
        inhaltsverzeichnis|seiten|menü|hauptmenü|navigationsmenü|sprachen|rubriken|ressorts|startseite|anmeldung|
        service|impressum|beitragsnavigation|übersicht|meta navigation|catégories|catégorie|mots clés|étiquettes|
        sommaire|rechercher|recherche|rubriques|archives du blog|accueil|mentions légales|liens utiles|menu principal|
        categorías|categoría|etiquetas|archivos|archivo|buscar|contenido|contenidos|índice|secciones|menú|
        menú principal|inicio|aviso legal|navegación|enlaces|categorie|archivi|archivio|cerca|indice|sezioni|sommario|
        ricerca|contenuti|categorias|arquivos|arquivo|pesquisar|conteúdo|seções|marcadores|buscar no site|categorieën|
        archief|zoeken|inhoud|inhoudsopgave|onderwerpen|trefwoorden|tagi|archiwum|szukaj|spis treści|nawigacja|strony|
        категории|категория|рубрики|метки|теги|архив|архивы|содержание|оглавление|поиск|меню|навигация|разделы|ссылки|
        рубрика|категорії|позначки|архіви|пошук|зміст|topik|kategori|arsip|pencarian|daftar isi|tag terkait|
        chuyên mục|thẻ|lưu trữ|tìm kiếm|mục lục|danh mục|分类|标签|目录|归档|搜索|导航|文章分类|分類|標籤|目錄|搜尋|
        彙整|カテゴリー|カテゴリ|目次|タグ|アーカイブ|検索|メニュー|月別アーカイブ|카테고리|태그|목차|검색|메뉴|
        보관함|kategorier|etiketter|arkiv|sök|innehåll|søk|søg|innhold|indhold|emneord|avainsanat|haku|sisällys|
        kategoriler|etiketler|arşiv|içindekiler|ara|rubriky|štítky|hledat|vyhledávání|obsah|rubrika|kategórie|hľadať|
        vyhľadávanie|kategóriák|címkék|archívum|keresés|tartalom|categorii|etichete|arhiva|căutare|cuprins|κατηγορίεσ|
        ετικέτεσ|αρχείο|αναζήτηση|περιεχόμενα|التصنيفات|تصنيفات|الأرشيف|الوسوم|بحث|المحتويات|القائمة|קטגוריות|תגיות|
        ארכיון|חיפוש|דסته ها|برچسب ها|جستجو|فهرست|श्रेणियाँ|टैग|खोजें|विषय सूची|kategorije|oznake|pretraga|sadržaj
    """,
    "references": """
        references|reference list|notes and references|footnotes|endnotes|bibliography|works cited|sources cited|
        citations|external links|further reading|additional reading|literature cited|references and notes|
        references and further reading|einzelnachweise|weblinks|literatur|literaturverzeichnis|quellenverzeichnis|
        fussnoten|anmerkungen|quellenangaben|literaturhinweise|références|notes et références|liens externes|
        bibliographie|voir également|referencias|enlaces externos|bibliografía|lecturas adicionales|
        notas y referencias|referências|ligações externas|leitura adicional|collegamenti esterni|riferimenti|
        bibliografia|note e riferimenti|altri progetti|przypisy|linki zewnętrzne|externe links|bronnen noten|
        bronvermelding|примечания|литература|источники|список литературы|внешние ссылки|сноски|примітки|джерела|
        посилання|脚注|参考文献|外部リンク|出典|参考资料|外部链接|参考来源|參考資料|外部連結|參考文獻|각주|참고 문헌|
        참고문헌|외부 링크|referenser|externa länkar|källor|referanser|eksterne lenker|kilder|referencer|
        eksterne henvisninger|lähteet|viitteet|aiheesta muualla|kaynakça|kaynaklar|dış bağlantılar|externí odkazy|
        literatura|externé odkazy|jegyzetek|források|további információk|note bibliografice|legături externe|
        παραπομπέσ|εξωτερικοί σύνδεσμοι|βιβλιογραφία|مراجع|المراجع|المصادر|وصلات خارجية|הערות שוליים|קישורים חיצוניים|
        منابع|پیوند به بیرون|सन्दर्भ|संदर्भ|बाहरी कड़ियाँ|referensi|pranala luar|tham khảo|liên kết ngoài|reference|
        vanjske poveznice|izvori
    """,
    "advertisement": """
        advertisement|advertisements|ad|ads|advertise|advertise with us|sponsored|sponsored content|sponsored links|
        sponsored by|promoted|paid content|partner content|special offer|special offers|deals|offers|todays deals|
        anzeige|anzeigen|werbung|publicité|annonce|publicidad|anuncio|pubblicità|publicidade|propaganda|advertentie|
        reklama|реклама|iklan|quảng cáo|広告|スポンサーリンク|pr|广告|廣告|광고|annons|reklame|mainos|reklam|reklám|
        publicitate|διαφήμιση|إعلان|פרסומת|विज्ञापन|oglas
    """,
    "paywall": """
        already a subscriber|already a member|subscribe to read|subscribe to continue reading|
        subscribe to read the full story|continue reading|continue reading your article|keep reading with|
        to continue reading|log in to continue|log in to read|sign in to continue|register to continue|
        register to read|become a subscriber|this article is for subscribers only|subscriber only|subscribers only|
        premium content|exclusive content|unlock this article|purchase this article|get unlimited access|
        create a free account|create an account|your subscription|choose your plan|choose your subscription|
        jetzt weiterlesen|weiterlesen mit|nur für abonnenten|bereits abonnent|exklusiv für abonnenten|
        réservé aux abonnés|déjà abonné|cet article est réservé aux abonnés|contenido exclusivo para suscriptores|
        solo para suscriptores|ya eres suscriptor|contenuto riservato agli abbonati|sei già abbonato|
        exclusivo para assinantes|já é assinante|alleen voor abonnees|tylko dla prenumeratorów|только для подписчиков|
        会員限定|有料会員限定|訂閱閱讀全文|for abonnenter|kun for abonnenter
    """,
    "not_found": """
        page not found|not found|404|404 not found|error 404|404 error|404 page not found|oops|access denied|
        forbidden|nothing found|no results found|seite nicht gefunden|page introuvable|page non trouvée|
        página no encontrada|pagina non trovata|página não encontrada|pagina niet gevonden|nie znaleziono strony|
        страница не найдена|sayfa bulunamadı|ページが見つかりません|页面未找到|找不到页面|페이지를 찾을 수 없습니다|
        sidan kunde inte hittas|siden blev ikke fundet|sivua ei löytynyt|stránka nenalezena
    """,
}

# Terms of notices on cookies and personal data, in running text.
PRIVACY_TERMS = """
    cookie|gdpr|dsgvo| rodo|personal data|privacy policy|privacy notice|privacy settings|personenbezogen|datenschutz|
    données personnelles|confidentialité|datos personales|política de privacidad|dati personali|dados pessoais|
    persoonsgegevens|privacybeleid|danych osobowych|prywatności|персональных данных|конфиденциальности|personuppgifter|
    personoplysninger|henkilötie|osobních údajů|személyes adat|kişisel veri|个人信息|隐私政策|個人情報|개인정보|
    withdraw your consent|legitimate interest|our partners|ip address
"""
